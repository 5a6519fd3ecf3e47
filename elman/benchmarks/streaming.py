"""One step of a stream: an LSTM, one sequence, one call a step."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elman.benchmarks.finding import Finding, Settings
from elman.benchmarks.grid import Point
from elman.benchmarks.problem import TOLERANCE, Problem, distance
from elman.benchmarks.subjects import subject_named
from elman.benchmarks.timing import compare, threads

#: One step: x [1, I] -> h [1, H], the state kept inside.
Step = Callable[[Tensor], Tensor]
MATRIX, NOTHING = "mat-vec", "mat-vec of one number"


def streaming(settings: Settings) -> Iterable[Finding]:
    """Microseconds a step of elman, ONNX Runtime, torch.nn and the matrix product alone."""
    for point in settings.at(Point(1, 64, 1), Point(1, 256, 1)):
        with torch.inference_mode(), threads(1):
            yield from _at(Point(1, point.hidden, 8), settings.budget)


def _at(point: Point, budget: float) -> Iterable[Finding]:
    problem = Problem.make(subject_named("lstm"), point, training=False)
    at = f"LSTM, H = {point.hidden}"
    layer = problem.subject.layer(problem.cell).eval()
    module = problem.subject.peer(problem.cell)
    assert module is not None
    makers = {"elman": getattr(layer, "stream", None), "torch.nn": lambda: _torch_step(module)}
    makers |= {"ONNX Runtime": _onnx_step_maker(problem)}
    runs: dict[str, Callable[[], Any]] = {}
    for name, make in makers.items():
        if make is None:
            reason = "this layer has no stream()" if name == "elman" else "not installed"
            yield Finding("streaming", name, at, None, "us", note=reason)
        elif (apart := _distance(make(), layer, problem.x)) > TOLERANCE:
            yield Finding("streaming", name, at, None, "us", note=f"WRONG: {apart:.1e}")
        else:
            runs[name] = _repeated(make(), problem.x[0])
    found = compare(runs | _products(point.hidden), budget)
    yield from _findings({name: 1000 * ms for name, ms in found.items()}, at)


def _findings(found: dict[str, float], at: str) -> Iterable[Finding]:
    bare = found[MATRIX] - found.pop(NOTHING)
    for name, microseconds in found.items():
        yield Finding("streaming", name, at, microseconds, "us")
    yield Finding("streaming", f"{MATRIX} without the call", at, bare, "us")
    if "elman" in found:
        above = found["elman"] - bare
        yield Finding("streaming", "elman above the mat-vec", at, above, "us", "<= 2.5")
        if "ONNX Runtime" in found:
            ratio = found["ONNX Runtime"] / found["elman"]
            yield Finding("streaming", "ONNX Runtime / elman", at, ratio, "times", ">= 5")


def _repeated(step: Step, x: Tensor) -> Callable[[], Any]:
    return lambda: step(x)


def _distance(step: Step, layer: torch.nn.Module, x: Tensor) -> float:
    """How far a stream lies from the whole sequence at once."""
    return distance(torch.stack([step(x_t) for x_t in x]), layer(x)[0].double())


def _torch_step(module: torch.nn.Module) -> Step:
    state = None

    def step(x: Tensor) -> Tensor:
        nonlocal state
        outputs, state = module(x[None], state)
        return outputs[0]

    return step


def _onnx_step_maker(problem: Problem) -> Callable[[], Step] | None:
    try:
        peer = import_module("elman.benchmarks.onnx_peer")
    except ImportError:
        return None
    session = peer.session(problem.cell, peer.NODES["lstm"], threads=1, streaming=True)
    return lambda: _onnx_step(session, problem.cell.output_size)


def _onnx_step(session: Any, hidden: int) -> Step:
    state = [np.zeros((1, 1, hidden), np.float32)] * 2

    def step(x: Tensor) -> Tensor:
        nonlocal state
        y, *state = session.run(None, {"x": x.numpy()[None], "h0": state[0], "c0": state[1]})
        return torch.from_numpy(y[0, 0])

    return step


def _products(hidden: int) -> dict[str, Callable[[], Any]]:
    """The products of one step as one mat-vec [4H, I + H], and what the call alone costs."""

    def product(rows: int, columns: int) -> Callable[[], Any]:
        matrix, vector = np.ones((rows, columns), np.float32), np.ones(columns, np.float32)
        out = np.empty(rows, np.float32)
        return lambda: np.dot(matrix, vector, out=out)

    return {MATRIX: product(4 * hidden, 2 * hidden), NOTHING: product(1, 1)}
