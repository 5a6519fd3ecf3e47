import json
import time

import pytest
import torch

from elman.benchmarks import peers, run
from elman.benchmarks.grid import FULL, Point, points_of
from elman.benchmarks.problem import Problem, distance, largest_distance, reference
from elman.benchmarks.run import Row
from elman.benchmarks.subjects import CLASSIC, OTHERS, subject_named
from elman.benchmarks.table import geometric_mean
from elman.benchmarks.timing import Contestant, Times, race

TINY = Point(3, 5, 4)
QUICK = ("--grid", "3,5,4", "--budget", "0.01")
INSTALLED = [name for name in peers.PACKAGES if name not in peers.missing()]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", [*CLASSIC, *OTHERS])
def test_every_peer_computes_what_the_cell_says(name, training):
    problem = Problem.make(subject_named(name), TINY, training)
    right = reference(problem)
    found = peers.peers(problem)
    onnx = not training and name.lower() in ("lstm", "gru", "elman", "peephole-lstm")
    expected = {"torch.nn" if name in CLASSIC else "torch loop"}
    expected |= {"JAX scan"} & set(INSTALLED)
    expected |= {"ONNX Runtime"} & set(INSTALLED) if onnx or name == "reset-before-gru" else set()
    expected -= {"ONNX Runtime"} if training else set()
    assert set(found) == expected
    for contestant in [peers.ours(problem), *(way for ways in found.values() for way in ways)]:
        results = contestant.results(contestant.run())
        apart, worst = largest_distance(results, right, training)
        assert apart < 5e-6, (contestant.name, contestant.setting, worst)
        assert set(results) == set(right if training else ["outputs"])


def test_the_table_as_json(elman):
    cells = ("--cell", "LSTM", "--cell", "custom")
    done = elman("bench", *cells, *QUICK, "--threads", 1, "--json", "-")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    modes = ["inference", "forward + backward"]
    assert [(r["cell"], r["mode"]) for r in found["rows"]] == [
        (cell, mode) for cell in ("lstm", "custom") for mode in modes
    ]
    for row in found["rows"]:
        times = {name: t["median_ms"] for name, t in row["times"].items()}
        ours = times.pop("elman")
        assert row["ratio"] == pytest.approx(min(times.values()) / ours)
        assert times[row["best_peer"]] == min(times.values())
        assert 0 < row["error"] < 5e-6
        assert row["wrong"] is None and row["left_out"] == {}
    for row, summary in zip(found["rows"], found["summary"], strict=True):
        assert summary["geometric_mean"] == pytest.approx(row["ratio"])
    assert set(found["missing"]) == set(peers.missing())


def test_the_table_for_people(elman, tmp_path):
    done = elman("bench", "--cell", "GRU", "--mode", "training", *QUICK, "--json", "out.json")
    assert done.code == 0, done.err
    assert "gru, forward + backward, ms" in done.out
    assert "inference" not in done.out
    assert "geometric mean" in done.out and "3, 5, 4" in done.out
    row = json.loads((tmp_path / "out.json").read_text())["rows"][0]
    assert f"{row['ratio']:.2f}" in done.out


def test_a_cell_of_ones_own(elman, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch, elman\n"
        "class Mine(elman.Cell):\n"
        "    def __init__(self, I, H):\n"
        "        super().__init__(I, h=H)\n"
        "        self.W = torch.nn.Linear(I, H)\n"
        "        self.U = torch.nn.Linear(H, H)\n"
        "    def step(self, x, h):\n"
        "        return torch.sin(self.W(x) + self.U(h))\n"
    )
    done = elman("bench", "--cell", "mine.py:Mine", *QUICK, "--json", "-")
    assert done.code == 0, done.err
    for row in json.loads(done.out)["rows"]:
        assert set(row["times"]) == {"elman", "torch loop"}


def test_no_time_is_shown_for_wrong_numbers(elman, monkeypatch):
    right = run.ours

    def bent(problem):
        honest = right(problem)

        def results(found):
            named = honest.results(found)
            name = "d weight_hh" if problem.training else "outputs"
            named[name] = named[name] + 1e-3 * named[name].abs().max()
            return named

        return Contestant(honest.name, honest.setting, honest.run, results)

    monkeypatch.setattr(run, "ours", bent)
    done = elman("bench", "--cell", "LSTM", *QUICK)
    assert done.code == 1
    assert "WRONG outputs: 1.0e-03" in done.out
    assert "WRONG d weight_hh: 1.0e-03" in done.out
    rows = json.loads(elman("bench", "--cell", "LSTM", *QUICK, "--json", "-").out)["rows"]
    assert all(row["times"] == {} and row["ratio"] is None for row in rows)


def test_a_peer_with_other_numbers_is_left_out_and_named(elman, monkeypatch):
    module = peers.nn.LSTM
    monkeypatch.setattr(
        module, "forward", lambda self, x, forward=module.forward: [forward(self, x)[0] + 1]
    )
    done = elman("bench", "--cell", "LSTM", "--mode", "inference", *QUICK, "--json", "-")
    row = json.loads(done.out)["rows"][0]
    assert row["left_out"].keys() == {"torch.nn"}
    assert "torch.nn" not in row["times"]


def test_what_is_not_installed_is_named(elman, monkeypatch):
    monkeypatch.setitem(peers.PACKAGES, "JAX scan", ("elman.benchmarks.no_such", "jax"))
    done = elman("bench", "--cell", "Elman", "--mode", "inference", *QUICK)
    assert done.code == 0
    assert "left out: JAX scan, not installed (pip install jax)" in done.out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--cell", "LSTMM"), "did you mean 'lstm'"),
        (("--mode", "train"), "did you mean 'training'"),
        (("--grid", "16,256"), "give full, quick, or a point B,H,T"),
        (("--grid", "16,0,3"), "whole numbers above 0"),
        (("--extra", "stream"), "did you mean 'streaming'"),
        (("--budget", 0), "above 0"),
        (("--threads", 0), "above 0"),
        (("--json", "nowhere/out.json"), "there is no folder nowhere"),
    ],
)
def test_bad_options_are_named(elman, wrong, said):
    done = elman("bench", *wrong)
    assert done.code == 2
    assert said in done.err.replace("\n", " ")


def test_help_teaches(elman):
    out = elman("bench", "--help").out
    for word in ("elman bench --cell lstm --grid quick", "path.py:ClassName", "WRONG", "accuracy"):
        assert word in out


def test_extras_measure_what_they_say(elman):
    names = ("streaming", "bidirectional", "options", "custom", "peak", "accuracy")
    extras = [word for name in names for word in ("--extra", name)]
    done = elman("bench", *extras, *QUICK, "--cell", "GRU", "--json", "-")
    assert done.code == 0, done.err
    found = json.loads(done.out)["extras"]
    assert list(dict.fromkeys(f["extra"] for f in found)) == list(names)
    measured = {f["what"] for f in found if f["value"] is not None and f["value"] > 0}
    assert {"torch.nn", "lengths, half filled", "reset", "zoneout", "state_dropout"} <= measured
    assert {"own cell / elman.LSTM", "best torch.mm"} <= measured
    assert {"torch.nn / elman", "in turn / together"} <= measured
    assert not any("WRONG" in f["note"] for f in found)
    accuracy = [f for f in found if f["extra"] == "accuracy"]
    assert [f["at"] for f in accuracy] == ["gru, 3, 5, 4"]
    assert accuracy[0]["value"] < 5


def test_the_first_call_is_measured_in_a_process_of_its_own(elman):
    done = elman("bench", "--extra", "compile", *QUICK, "--json", "-")
    found = json.loads(done.out)["extras"]
    assert [f["what"].split(", ")[1] for f in found] == ["cold", "from the disk cache"]
    assert all(0 <= f["value"] < 60 for f in found)


def test_the_grid():
    assert len(points_of(["full"])) == 10
    assert points_of(["16,256,100", "FULL"])[0] == Point(16, 256, 100)
    assert len(points_of(["16,256,100", "full", "quick"])) == 10
    assert set(points_of(["quick"])) <= set(FULL)


def test_the_race_takes_the_best_setting_and_drops_the_hopeless():
    slept = []

    def contestant(name, setting, seconds):
        def run():
            slept.append((name, setting))
            time.sleep(seconds)

        return Contestant(name, setting, run, dict)

    entries = {
        "elman": [contestant("elman", "", 0.02)],
        "near": [contestant("near", "slow", 0.03), contestant("near", "fast", 0.015)],
        "far": [contestant("far", "", 0.1)],
    }
    times = race(entries, budget=0.01)
    assert times["near"].setting == "fast"
    assert times["far"].calls == 1 and times["far"].median_ms > 90
    assert slept.count(("near", "fast")) > slept.count(("near", "slow"))
    assert 15 <= times["near"].min_ms <= times["near"].median_ms < 20 + times["elman"].median_ms


def test_ratios_are_of_the_fastest_peer():
    times = {n: Times(ms, ms, 1, "") for n, ms in (("elman", 2.0), ("a", 8.0), ("b", 4.0))}
    row = Row("lstm", False, TINY, 0.0, None, times)
    assert (row.best_peer, row.ratio(), row.ratio("a"), row.ratio("c")) == ("b", 2.0, 4.0, None)
    assert geometric_mean([2.0, None, 8.0]) == pytest.approx(4.0)


def test_a_distance_is_never_hidden_by_nan():
    right = torch.ones(3, dtype=torch.float64)
    assert distance(torch.tensor([1.0, float("nan"), 1.0]), right) == float("inf")
    assert distance(torch.ones(2), right) == float("inf")
    assert distance(torch.tensor([1.0, 1.5, 1.0]), right) == 0.5
    assert largest_distance({"outputs": right}, {"outputs": right, "d x": right}, True) == (
        float("inf"),
        "d x",
    )
