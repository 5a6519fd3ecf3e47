"""Further measurements: what `elman bench --extra` runs."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

import elman
from elman.benchmarks.directions import bidirectional
from elman.benchmarks.finding import Finding, Settings
from elman.benchmarks.first_call import compile_time
from elman.benchmarks.grid import FULL, Point
from elman.benchmarks.own_cells import SiluLSTM
from elman.benchmarks.peers import ELMAN, ours, peers
from elman.benchmarks.problem import (
    Problem,
    Results,
    literal_loop,
    named_results,
    reference,
    torch_names,
    torch_run,
)
from elman.benchmarks.streaming import streaming
from elman.benchmarks.subjects import Subject, subject_named
from elman.benchmarks.timing import SETTLE, compare, race
from elman.errors import unknown


def options(settings: Settings) -> Iterable[Finding]:
    """What lengths, resets, zoneout and state dropout cost: the time over that without them."""
    claims = {"lengths, half filled": "<= 0.6", "reset": "<= 1.08", "zoneout": "<= 1.08"}
    claims["state_dropout"] = "<= 1.08"
    for point in settings.at(Point(16, 256, 100), Point(64, 128, 100)):
        found = compare(_with_options(point), settings.budget)
        for name, claim in claims.items():
            ratio = found[name] / found["plain"]
            at = f"LSTM, {point}, forward + backward"
            yield Finding("options", name, at, ratio, "times plain", claim)


def _with_options(point: Point) -> dict[str, Callable[[], Any]]:
    B, H, T = point.batch, point.hidden, point.steps
    x = torch.randn(T, B, H, requires_grad=True)
    lengths = torch.linspace(1, T, B).long() if B > 1 else torch.tensor([(T + 1) // 2])
    cuts = torch.rand(T, B) < 0.05

    def run(arguments: dict[str, Any], **rates: Any) -> Callable[[], Any]:
        layer = elman.LSTM(H, H, **rates)
        wanted = [x, *layer.parameters()]
        return lambda: torch.autograd.grad(layer(x, **arguments)[0].sum(), wanted)

    return {
        "plain": run({}),
        "lengths, half filled": run({"lengths": lengths}),
        "reset": run({"reset": cuts}),
        "zoneout": run({}, zoneout=0.1),
        "state_dropout": run({}, state_dropout=0.1),
    }


def custom(settings: Settings) -> Iterable[Finding]:
    """A user's LSTM with another candidate beside elman.LSTM, which has the same products."""
    own = Subject("own", SiluLSTM)
    for point in settings.at(Point(1, 256, 1024), Point(16, 256, 100), Point(64, 128, 100)):
        runs = {
            name: ours(Problem.make(subject, point, training=True)).run
            for name, subject in (("built-in", subject_named("lstm")), ("own", own))
        }
        found = compare(runs, settings.budget)
        ratio = found["own"] / found["built-in"]
        at = f"{point}, forward + backward"
        yield Finding("custom", "own cell / elman.LSTM", at, ratio, "times", "<= 1.25")


def peak(settings: Settings) -> Iterable[Finding]:
    """The share of the fastest matrix product that LSTM training reaches."""
    for point in settings.at(Point(32, 512, 100), Point(64, 1024, 64)):
        problem = Problem.make(subject_named("lstm"), point, training=True)
        entries = {ELMAN: [ours(problem)], "torch.nn": peers(problem)["torch.nn"]}
        times = race(entries, settings.budget, float("inf"))
        best = product_rate(point, settings.budget)
        at = f"LSTM, {point}, forward + backward"
        yield Finding("peak", "best torch.mm", at, best, "GF/s")
        for name, found in times.items():
            rate = lstm_work(point) / found.median_ms / 1e6
            claim = ">= 0.85" if name == ELMAN else ""
            yield Finding("peak", name, at, rate / best, "of it", claim, f"{rate:.0f} GF/s")


def lstm_work(point: Point) -> float:
    """Operations of an LSTM's products, forward and backward: 2 a weight, step and sequence, and
    twice that for the gradients of both factors."""
    weights = 4 * point.hidden * 2 * point.hidden
    return 3 * 2.0 * weights * point.batch * point.steps


def product_rate(point: Point, budget: float) -> float:
    """The best rate of torch.mm in GF/s, over squares and the shapes of this point."""
    H, rows = point.hidden, point.batch * point.steps
    best = 0.0
    for m, k, n in ((1024,) * 3, (2048,) * 3, (rows, H, 4 * H), (4 * H, rows, H), (rows, 4 * H, H)):
        a, b, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
        time.sleep(SETTLE)
        end = time.perf_counter() + budget / 5
        for call in range(1000):
            begin = time.perf_counter()
            torch.mm(a, b, out=out)
            now = time.perf_counter()
            best = max(best, 2.0 * m * k * n / (now - begin) / 1e9)
            if call >= 3 and now > end:
                break
    return best


def accuracy(settings: Settings) -> Iterable[Finding]:
    """How far float32 lies from the float64 loop, over how far torch's own float32 does: the
    worst of the outputs and all gradients."""
    for subject in settings.subjects:
        for point in settings.at(*FULL):
            problem = Problem.make(subject, point, training=True)
            mine = ours(problem)
            yield _compared(
                reference(problem), mine.results(mine.run()), _by_torch(problem), problem, point
            )


def _compared(
    right: Results, mine: Results, theirs: Results, problem: Problem, point: Point
) -> Finding:
    apart = {n: (_rms(mine[n], right[n]), _rms(theirs[n], right[n])) for n in right}
    ratios = {n: a / b if b else float(a > 0) for n, (a, b) in apart.items()}
    worst = max(ratios, key=lambda name: ratios[name])
    a, b = apart[worst]
    note = f"{worst}: {a:.1e}, torch's {b:.1e}"
    at = f"{problem.subject.name}, {point}"
    return Finding("accuracy", "distance / torch's", at, ratios[worst], "times", "<= 2", note)


def _by_torch(problem: Problem) -> Results:
    module = problem.subject.peer(problem.cell)
    if module is None:
        run = torch_run(problem, lambda x: literal_loop(problem.cell, x), problem.cell)
        return named_results(torch_names(problem.cell), run())
    run = torch_run(problem, lambda x: module(x)[0], module)
    return named_results(torch_names(module), run())


def _rms(actual: Tensor, right: Tensor) -> float:
    """The root of the mean square of the error, over that of the right values."""
    right = right.detach()
    scale = right.square().mean().sqrt().item()
    error = (actual.detach().double() - right).square().mean().sqrt().item()
    return error / scale if scale else error


EXTRAS: dict[str, Callable[[Settings], Iterable[Finding]]] = {
    "streaming": streaming,
    "compile": compile_time,
    "bidirectional": bidirectional,
    "options": options,
    "custom": custom,
    "peak": peak,
    "accuracy": accuracy,
}


def extras_named(names: list[str]) -> list[str]:
    """The names asked for, "all" being every one; OptionError for one that there is not."""
    for name in names:
        if name not in EXTRAS and name != "all":
            raise unknown("extra", name, [*EXTRAS, "all"])
    return list(EXTRAS) if "all" in names else list(dict.fromkeys(names))
