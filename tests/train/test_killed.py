"""A training on examples that is killed goes on to the same weights, bit for bit."""

import os

import numpy as np
import pytest

from tests.train.processes import trained

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")

WORDS = ["red", "green", "blue", "one", "two", "three"]
OPTIONS = {"hidden": 6, "batch_size": 4, "steps": 40, "validate_every": 15, "dropout": 0.2}
OPTIONS |= {"checkpoint_seconds": 0.001, "zoneout": 0.1}
KEPT = ("model.safetensors", "checkpoints/step-000000040/model.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("killed"), np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, 1 + n % 7)) for n in range(30)]
    (folder / "classify.csv").write_text(
        "\n".join(["text,label", *(f"{text},{text[0]}" for text in texts)])
    )
    (folder / "translate.tsv").write_text("\n".join(f"{text}\t{text[::-1]}" for text in texts))
    return folder


@pytest.mark.parametrize(
    ("task", "file", "options", "processes"),
    [
        ("classify", "classify.csv", {"precision": "bf16", "word_dropout": 0.1}, 1),
        ("classify", "classify.csv", {"ema_decay": 0.9}, 2),
        ("translate", "translate.tsv", {"scheduled_sampling": 0.5, "beams": 1}, 1),
    ],
)
def test_a_killed_training_goes_on_to_the_same_weights(folder, task, file, options, processes):
    whole, killed = (folder / f"{task}-{processes}-{name}" for name in ("whole", "killed"))
    options = OPTIONS | options
    assert trained(task, [folder / file], whole, processes, **options) == ["well"] * processes

    def kill(started):
        while not list((killed / "checkpoints").glob("step-*[2-9]")):
            assert all(process.is_alive() for process in started)
        for process in started:
            process.kill()

    trained(task, [folder / file], killed, processes, before=kill, answering=[], **options)
    assert not (killed / KEPT[1]).exists()
    assert trained(None, [], killed, processes) == ["well"] * processes
    for name in KEPT:
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
