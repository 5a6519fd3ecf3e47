"""Several processes train the same model as one, to rounding, and end together."""

import csv
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from elman.errors import OptionError
from elman.train.checkpoint import checkpoints_in
from elman.train.distributed import require_processes
from elman.train.options import TrainOptions
from tests.train.processes import torchrun_environment, trained

WORDS = ["red", "green", "blue", "one", "two", "three", "yes", "no"]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Texts of every length with labels, pairs of texts, a long text, a spare cell."""
    folder, draw = tmp_path_factory.mktemp("parallel"), np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, 1 + n % 7)) for n in range(30)]
    rows = [f"{text},{text.split()[0][0]}" for text in texts]
    (folder / "texts.csv").write_text("\n".join(["text,label", *rows[:21]]) + "\n")
    (folder / "one.csv").write_text(f"text,label\n{rows[21]}\n")
    pairs = [f"{text}\t{text[::-1]}\n" for text in texts]
    (folder / "eight.tsv").write_text("".join(pairs[:8]))
    (folder / "two.tsv").write_text("".join(pairs[8:10]))
    (folder / "text.txt").write_text(" ".join(texts * 3) + "\n")
    (folder / "spare.py").write_text(
        "import torch, elman\n"
        "from torch import nn\n"
        "class Spare(elman.Cell):\n"
        "    def __init__(self, input_size, hidden_size):\n"
        "        super().__init__(input_size, h=hidden_size)\n"
        "        self.W = nn.Linear(input_size, hidden_size)\n"
        "        self.U = nn.Linear(hidden_size, hidden_size)\n"
        "        self.spare = nn.Parameter(torch.ones(hidden_size))\n"
        "    def step(self, x, h):\n"
        "        return torch.tanh(self.W(x) + self.U(h))\n"
    )
    return folder


def metrics(run: Path) -> list[dict[str, float]]:
    """The rows of metrics.csv, without what the clock decides."""
    with (run / "metrics.csv").open(newline="") as file:
        return [
            {
                name: float(value)
                for name, value in row.items()
                if value and not name.endswith("_per_s") and name != "seconds"
            }
            for row in csv.DictReader(file)
        ]


def assert_same(one: Path, two: Path) -> None:
    """The same rows of metrics.csv, and the same last weights, to rounding."""
    rows, others = metrics(one), metrics(two)
    assert any("valid_loss_nats" in row for row in rows)
    assert any("train_loss_nats" in row for row in rows)
    assert [set(row) for row in rows] == [set(row) for row in others]
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=1e-5, abs=1e-5)
    weights, other_weights = (
        load_file(sorted((run / "checkpoints").iterdir())[-1] / "model.safetensors")
        for run in (one, two)
    )
    assert weights.keys() == other_weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, other_weights[name], rtol=1e-5, atol=1e-5)


CLASSIFY = {"batch_size": 4, "hidden": 6, "steps": 11, "validate_every": 4, "optimizer": "sgd"}
LM = {"batch_size": 4, "bptt": 7, "hidden": 6, "steps": 10, "validate_every": 4}


def test_a_classifier_is_the_same_by_two_processes(folder):
    # 21 examples in batches of 4: at the end of each pass one process has nothing to do, and none
    # but one has in the validation, which is on one example.
    files, options = [folder / "texts.csv"], {"valid": [str(folder / "one.csv")], **CLASSIFY}
    one, two = folder / "classify-1", folder / "classify-2"
    assert trained("classify", files, one, **options) == ["well"]
    assert trained("classify", files, two, processes=2, **options) == ["well", "well"]
    assert_same(one, two)


# 0.02: too short for two streams, so that each process reads the only one.
@pytest.mark.parametrize("valid_fraction", [0.1, 0.02])
def test_a_language_model_is_the_same_by_two_processes(folder, valid_fraction):
    one, two = folder / f"lm-1-{valid_fraction}", folder / f"lm-2-{valid_fraction}"
    options = {"valid_fraction": valid_fraction, **LM}
    assert trained("lm", [folder / "text.txt"], one, **options) == ["well"]
    assert trained("lm", [folder / "text.txt"], two, processes=2, **options) == ["well"] * 2
    assert_same(one, two)


def test_a_translator_is_the_same_by_three_machines(folder):
    # Eight pairs in batches of six, and two to validate on: one of the three has nothing to do,
    # and what fills its place would shift the mean of the two.
    options = {"valid": [str(folder / "two.tsv")], "batch_size": 6, "hidden": 6, "steps": 7}
    options |= {"beams": 1, "optimizer": "sgd"}
    one, three = folder / "translate-1", folder / "translate-3"
    assert trained("translate", [folder / "eight.tsv"], one, **options) == ["well"]
    said = trained("translate", [folder / "eight.tsv"], three, processes=3, nodes=3, **options)
    assert said == ["well"] * 3
    assert_same(one, three)


def test_a_parameter_that_no_step_uses_is_left_alone(folder):
    options = {**CLASSIFY, "cell": f"{folder / 'spare.py'}:Spare", "steps": 4}
    one, two = folder / "spare-1", folder / "spare-2"
    assert trained("classify", [folder / "texts.csv"], one, **options) == ["well"]
    said = trained("classify", [folder / "texts.csv"], two, processes=2, **options)
    assert said == ["well", "well"]
    assert_same(one, two)


def test_a_budget_of_minutes_ends_all_processes_with_the_same_weights(folder):
    options = {**CLASSIFY, "steps": None, "minutes": 0.01, "validate_every": 10**6}
    said = trained("classify", [folder / "texts.csv"], folder / "minutes", processes=2, **options)
    assert said == ["well", "well"]
    rows = metrics(folder / "minutes")
    assert "valid_loss_nats" in rows[-1] and rows[-1]["step"] == rows[-2]["step"] > 0


# Preparation


def test_a_failed_preparation_ends_all_processes_with_an_error(folder):
    out = folder / "no-labels"
    files = [folder / "one.csv"]
    first, second = trained("classify", files, out, processes=2, **CLASSIFY)
    assert "at least two different labels" in first
    assert "the first process could not prepare the run" in second
    assert not out.exists()


def test_force_replaces_a_run_before_any_process_reads_it(folder):
    out, options = folder / "forced", {**CLASSIFY, "steps": 3}
    assert trained("lm", [folder / "text.txt"], out, **LM) == ["well"]
    refused = trained("classify", [folder / "texts.csv"], out, processes=2, **options)
    assert "a run is there already" in refused[0] and "could not prepare" in refused[1]
    files = [folder / "texts.csv"]
    assert trained("classify", files, out, processes=2, force=True, **options) == ["well"] * 2
    assert metrics(out)[-1]["step"] == 3
    assert "valid_accuracy" in metrics(out)[-1]


@pytest.mark.parametrize(
    ("devices", "nodes", "message"),
    [
        (1, 1, "torchrun started 4, 2 on this one: give --devices 2 --nodes 2"),
        (4, 1, "torchrun started 4, 2 on this one: give --devices 2 --nodes 2"),
        (2, 2, None),
    ],
)
def test_the_options_must_fit_the_processes_of_torchrun(monkeypatch, devices, nodes, message):
    for name, value in torchrun_environment(1, 4, 2, 1).items():
        monkeypatch.setenv(name, value)
    options = TrainOptions(devices=devices, nodes=nodes)
    if message is None:
        return require_processes(options)
    with pytest.raises(OptionError, match=message):
        require_processes(options)


def test_several_machines_need_torchrun(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with pytest.raises(OptionError, match="torchrun --nnodes 2 --nproc-per-node 1 -m elman.cli"):
        require_processes(TrainOptions(nodes=2))


# Reading ahead


def test_workers_change_no_bit(folder):
    files, options = [folder / "texts.csv"], {**CLASSIFY, "optimizer": "adamw", "dropout": 0.2}
    for workers in (0, 2):
        out = folder / f"workers-{workers}"
        assert trained("classify", files, out, workers=workers, **options) == ["well"]
    assert metrics(folder / "workers-0") == metrics(folder / "workers-2")
    name = "checkpoints/step-000000011/model.safetensors"
    bits = [(folder / f"workers-{workers}" / name).read_bytes() for workers in (0, 2)]
    assert bits[0] == bits[1]


def test_a_budget_of_minutes_holds_where_workers_read_ahead(folder):
    options = {**CLASSIFY, "steps": None, "minutes": 0.01, "validate_every": 10**6, "workers": 2}
    assert trained("classify", [folder / "texts.csv"], folder / "ahead", **options) == ["well"]
    assert "valid_loss_nats" in metrics(folder / "ahead")[-1]


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interruption_of_one_process_ends_all_and_their_workers(folder, processes):
    out = folder / f"interrupted-{processes}"
    families: list[set[int]] = []

    def interrupt(started):
        while not has_trained(out):
            assert all(process.is_alive() for process in started)
        families.extend(children_of(process.pid) for process in started)
        os.kill(started[-1].pid, signal.SIGINT)

    options = {**CLASSIFY, "steps": 10**6, "workers": 1, "checkpoint_seconds": 0.01}
    said = trained("classify", [folder / "texts.csv"], out, processes, before=interrupt, **options)
    assert all("KeyboardInterrupt" in text for text in said)
    assert "stopping after this step" in said[-1]
    assert len(families) == processes and all(families)
    assert [pid for family in families for pid in family if alive(pid)] == []


def test_a_killed_process_ends_the_others_with_an_error(folder):
    out = folder / "killed"

    def kill(started):
        while not has_trained(out):
            assert all(process.is_alive() for process in started)
        started[1].kill()

    options = {**CLASSIFY, "steps": 10**6, "checkpoint_seconds": 0.01}
    (said,) = trained(
        "classify", [folder / "texts.csv"], out, 2, before=kill, answering=[0], **options
    )
    assert "a process that shared this training is gone" in said and "--resume" in said


def has_trained(run: Path) -> bool:
    """Whether a checkpoint was written after a step: signals are handled from the first one on."""
    return any(int(path.name.removeprefix("step-")) for path in checkpoints_in(run / "checkpoints"))


def children_of(pid: int) -> set[int]:
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.is_dir():
        pytest.skip("no /proc to see the workers in")
    return {int(child) for t in tasks.iterdir() for child in (t / "children").read_text().split()}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
