import csv
import json
import math

import pytest
import torch

import elman as library
from elman.train import module
from tests.cli.conftest import SMALL


def rows(run):
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_folder_holds_what_it_promises(trained):
    names = {p.name for p in trained.iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "metrics.csv",
        "curves.png",
        "sample.txt",
        "checkpoints",
        "data",
    }
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len((trained / "sample.txt").read_text()) > 500
    config = json.loads((trained / "config.json").read_text())
    assert config["options"]["hidden"] == 16
    assert config["metadata"]["train"]["tokens"] == int(44 * 60 * 0.9)


def test_the_loss_falls_and_everything_is_measured(trained):
    table = rows(trained)
    losses = [float(r["train_loss_nats"]) for r in table if r["train_loss_nats"]]
    assert losses[-1] < 0.6 * losses[0]
    assert [int(r["step"]) for r in table if r["grad_norm"]] == [10, 20, 30, 40, 50, 60]
    assert all(float(r["tokens_per_s"]) > 0 for r in table if r["tokens_per_s"])
    valid = [float(r["valid_loss_nats"]) for r in table if r["valid_loss_nats"]]
    assert valid[-1] < valid[0]


def test_the_validation_loss_is_that_of_the_weights_kept(trained, elman):
    held_out = "the quick brown fox jumps over the lazy dog\n" * 60
    (trained.parent / "held-out.txt").write_text(held_out[int(44 * 60 * 0.9) :])
    scores = json.loads(elman("eval", "run", "held-out.txt", "--json").out)
    valid = min(float(r["valid_loss_nats"]) for r in rows(trained) if r["valid_loss_nats"])
    assert scores["loss_nats"] == pytest.approx(valid, rel=0.05)


def test_the_same_seed_trains_the_same_model(elman, text):
    noisy = ["--dropout", 0.1, "--variational-dropout", 0.1, "--zoneout", 0.1, "--weight-drop", 0.1]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = elman(
            "train", "lm", text, *SMALL, *noisy, "--steps", 12, "--out", name, "--seed", seed
        )
        assert done.code == 0, done.err
    weights = [(text.parent / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("unit", ["byte", "word", "bpe"])
def test_every_unit_of_text_trains(unit, elman, text):
    options = ["--tokenizer", unit, "--bptt", 4, "--valid-fraction", 0.3]
    done = elman("train", "lm", text, *SMALL, *options, "--steps", 5, "--out", "r")
    assert done.code == 0, done.err
    assert "bits/char" in done.out


def test_every_option_of_the_model_trains(elman, text):
    done = elman(
        *("train", "lm", text, *SMALL, "--layers", 2, "--tie", "--residual", "--layer-norm"),
        *("--cell", "gru", "--cell-option", "reset_after=false", "--cell-option", "update=replace"),
        *("--optimizer", "sgd", "--momentum", 0.9, "--schedule", "halving", "--halve-after", 1),
        *("--clip-value", 0.1, "--warmup", 3, "--weight-decay", 0.01, "--valid", text),
        *("--epochs", 1, "--precision", "bf16", "--patience", 3, "--out", "r"),
    )
    assert done.code == 0, done.err


def test_double_precision_trains_in_double_precision(elman, text):
    done = elman("train", "lm", text, *SMALL, "--precision", 64, "--steps", 3, "--out", "r")
    assert done.code == 0, done.err
    checkpoint = next((text.parent / "r" / "checkpoints").iterdir())
    from safetensors.torch import load_file

    assert {t.dtype for t in load_file(checkpoint / "model.safetensors").values()} == {
        torch.float64
    }


CELL = """
import elman, torch
class Leaky(elman.Cell):
    def __init__(self, input_size, hidden_size, rate=0.5):
        super().__init__(input_size, h=hidden_size)
        self.W = torch.nn.Linear(input_size, hidden_size)
        self.U = torch.nn.Linear(hidden_size, hidden_size)
        self.rate = rate
    def step(self, x, h):
        return (1 - self.rate) * h + self.rate * torch.tanh(self.W(x) + self.U(h))
"""


def test_a_cell_of_ones_own_trains_and_no_code_comes_from_a_run(elman, text):
    (text.parent / "mine.py").write_text(CELL)
    cell = ["--cell", "mine.py:Leaky"]
    options = [*cell, "--cell-option", "rate=0.3", "--steps", 5]
    done = elman("train", "lm", text, *SMALL, *options, "--out", "r")
    assert done.code == 0, done.err
    refused = elman("sample", "r")
    assert refused.code == 1
    assert "--cell path.py:ClassName" in refused.err
    assert elman("sample", "r", "--length", 5, *cell).code == 0
    assert elman("train", "--resume", "r", "--steps", 7, *cell).code == 0


def test_a_minute_is_a_budget_of_time(elman, text):
    done = elman("train", "lm", text, *SMALL, "--minutes", 0.03, "--out", "r")
    assert done.code == 0, done.err
    last = max((text.parent / "r" / "checkpoints").iterdir()) / "position.json"
    assert 1.8 <= json.loads(last.read_text())["seconds"] < 20


def test_patience_ends_a_training_that_learns_nothing_more(elman, text):
    options = ["--learning-rate", 1e-9, "--schedule", "plateau", "--patience", 2]
    limits = ["--steps", 400, "--validate-every", 4]
    done = elman("train", "lm", text, *SMALL, *options, *limits, "--out", "r")
    assert done.code == 0, done.err
    assert int(rows(text.parent / "r")[-1]["step"]) < 400


def test_a_loss_that_explodes_stops_and_keeps_the_last_good_weights(elman, text, monkeypatch):
    before = module.SequenceModule.on_train_batch_start

    def poisoned(self, batch, batch_idx):
        before(self, batch, batch_idx)
        if self.position.step == 7:
            with torch.no_grad():
                self.model.output.bias.fill_(torch.nan)

    monkeypatch.setattr(module.SequenceModule, "on_train_batch_start", poisoned)
    options = ["--steps", 20, "--validate-every", 5, "--out", "r"]
    done = elman("train", "lm", text, *SMALL, *options)
    assert done.code == 1
    assert "the loss became nan after step 7" in done.err
    folder = text.parent / "r"
    names = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert names == ["step-000000000", "step-000000005"]
    assert int(rows(folder)[-1]["step"]) >= 5
    assert elman("sample", "r", "--length", 5).code == 0
    monkeypatch.undo()
    assert elman("train", "--resume", folder).code == 0


def test_a_validation_that_is_not_finite_keeps_the_checkpoint_before(elman, text, monkeypatch):
    monkeypatch.setattr(
        module.SequenceModule,
        "on_validation_epoch_start",
        lambda self: setattr(self, "_sums", {"total": math.nan}),
    )
    done = elman("train", "lm", text, *SMALL, "--steps", 20, "--validate-every", 5, "--out", "r")
    assert done.code == 1
    assert "the validation loss became nan after step 5" in done.err
    assert [p.name for p in (text.parent / "r" / "checkpoints").iterdir()] == ["step-000000000"]


def test_the_empty_folder_that_one_is_in_may_become_the_run(elman, text, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = elman("train", "lm", text, *SMALL, "--steps", 2, "--out", ".", "--cell", "GRU")
    assert done.code == 0, done.err
    assert elman("sample", ".", "--length", 3).code == 0


def test_python_loads_what_the_command_line_trained(trained):
    loaded = library.load(trained)
    pieces = loaded.generate("the ", 20, temperature=0)
    assert "".join(pieces)
    assert not loaded.model.training
    logits, _ = loaded.model(torch.tensor([[1], [2]]))
    assert logits.shape == (2, 1, loaded.tokenizer.vocab_size)
