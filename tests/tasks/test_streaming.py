"""Answers while the input comes are those of the whole input so far."""

import io
import json

import numpy as np
import pytest
import torch

import elman as library
from elman.layers import Pooling
from elman.layers.pooling import KINDS
from elman.tasks.base.streaming import StepTimes, answers

TINY = [
    *("--hidden", 8, "--batch-size", 8, "--steps", 12, "--threads", 1, "--no-bidirectional"),
    *("--learning-rate", 0.02),
]


@pytest.mark.parametrize("kind", KINDS)
def test_running_pooling_is_pooling_of_what_there_was(kind):
    pooling = Pooling(5, kind).double()
    x = 30 * torch.randn(9, 3, 5, dtype=torch.float64)
    running = pooling.running()
    for t in range(9):
        torch.testing.assert_close(running(x[t]), pooling(x[: t + 1]))


def test_what_reads_backwards_has_no_running_last():
    with pytest.raises(library.errors.OptionError, match="whole sequence"):
        Pooling(4, "last", forward_size=2).running()


def test_times_of_steps_are_told_to_a_percent_whatever_they_are():
    times, drawn = StepTimes(), np.exp(np.random.default_rng(0).normal(-9, 2, 5000))
    for seconds in (*drawn, 0.0):
        times.add(seconds)
    assert times.steps == 5001
    for share in (0.5, 0.99):
        assert times.quantile(share) == pytest.approx(np.quantile(drawn, share), rel=0.02)
    times.add(1e9)
    assert str(StepTimes()) == "no step"


@pytest.fixture(scope="module")
def series(shared):
    path, run = shared
    draw = np.random.default_rng(0)
    y = np.arange(32) % 2
    x = draw.normal(size=(32, 6, 2)) + y[:, None, None]
    np.savez(path / "series.npz", x=x, y=y)
    run("classify", "series.npz", *TINY, "--pooling", "attention", "--out", "classify")
    return path / "classify", x[0]


def test_a_classifier_answers_after_each_step(series):
    folder, x = series
    loaded = library.load(folder)
    lines = [" ".join(map(str, step)) for step in x]
    given = io.BytesIO("\n".join([*lines, "", *lines[:2]]).encode() + b"\n")
    times = StepTimes()
    found = [a.record["probabilities"] for a in answers(loaded.stream(), given, times)]
    whole = loaded.predict([x[: t + 1].astype(np.float32) for t in (*range(6), 0, 1)])
    assert len(found) == times.steps == 8
    for one, other in zip(found, (a.record["probabilities"] for a in whole), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_the_command(series, elman, monkeypatch):
    folder, _ = series

    class Stdin:
        buffer = io.BytesIO(b"1 2\n\n3 4\n")

    monkeypatch.setattr("elman.cli.predict.sys.stdin", Stdin)
    said = elman("predict", folder, "--stream", "--json")
    assert said.code == 0, said.err
    assert len([json.loads(line) for line in said.out.splitlines()]) == 2
    assert "2 steps" in said.err and "99th percentile" in said.err
    assert "standard input" in elman("predict", folder, "1 2", "--stream").err
    Stdin.buffer = io.BytesIO(b"1 2\n1 2 3\n")
    assert "make no steps of 2" in elman("predict", folder, "--stream").err


def test_a_tagger_answers_after_each_word(shared, elman):
    path, run = shared
    sentence = "the DET\ndog NOUN\nruns VERB\n\na DET\ncat NOUN\n\n"
    (path / "words.conll").write_text(sentence * 10)
    run("tag", "words.conll", *TINY, "--out", "tag")
    loaded = library.load(path / "tag")
    given = io.BytesIO(b"the\ndog\nruns\n\na\ncat\n")
    found = [a.record for a in answers(loaded.stream(), given)]
    whole = [a.record for a in loaded.predict([["the", "dog", "runs"], ["a", "cat"]])]
    assert [r["tag"] for r in found] == whole[0]["tags"] + whole[1]["tags"]
    shares = [r["probability"] for r in found]
    assert shares == pytest.approx(whole[0]["probabilities"] + whole[1]["probabilities"], abs=1e-5)


def test_what_cannot_answer_before_the_end_says_so(shared, elman):
    path, run = shared
    run("classify", *TINY[:-3], "--learning-rate", 0.01, "--bidirectional", "--out", "both")
    assert "--no-bidirectional" in elman("predict", path / "both", "--stream").err
    (path / "words.conll").write_text("the DET\ndog NOUN\n\n" * 20)
    run("tag", "words.conll", *TINY, "--window", 3, "--out", "window")
    assert "--window 1" in elman("predict", path / "window", "--stream").err
    run("tag", "words.conll", *TINY, "--global-context", "--out", "whole")
    assert "--global-context" in elman("predict", path / "whole", "--stream").err
