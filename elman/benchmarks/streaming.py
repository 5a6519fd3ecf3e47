"""One step of a stream: an LSTM, one sequence, one call a step."""

from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.benchmarks.finding import Finding, Settings
from elman.benchmarks.grid import Point
from elman.benchmarks.problem import TOLERANCE, Problem, distance
from elman.benchmarks.subjects import subject_named
from elman.benchmarks.timing import compare, threads

#: One step: x [1, I] -> h [1, H], the state kept inside; of what the library itself takes.
Step = Callable[[Any], Any]
#: The product alone, and what calling it costs: that of one number.
PRODUCT, CALL = "mat-vec (torch.mv)", "call of torch.mv"


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
            continue
        inputs = list(problem.x.numpy() if name == "ONNX Runtime" else problem.x)
        apart = _distance(make(), layer, problem.x, inputs)
        if apart <= TOLERANCE:
            runs[name] = partial(make(), inputs[0])
        else:
            yield Finding("streaming", name, at, None, "us", note=f"WRONG: {apart:.1e}")
    found = compare(runs | _products(point.hidden), budget)
    yield from _findings({name: 1000 * ms for name, ms in found.items()}, at)


def _findings(found: dict[str, float], at: str) -> Iterable[Finding]:
    bare = found[PRODUCT] - found.pop(CALL)
    for name, microseconds in found.items():
        yield Finding("streaming", name, at, microseconds, "us")
    note = "torch's; one of packed weights may take less"
    yield Finding("streaming", "mat-vec without the call", at, bare, "us", note=note)
    if "elman" in found:
        above = found["elman"] - bare
        yield Finding("streaming", "elman above the mat-vec", at, above, "us", "<= 2.5")
        if "ONNX Runtime" in found:
            ratio = found["ONNX Runtime"] / found["elman"]
            yield Finding("streaming", "ONNX Runtime / elman", at, ratio, "times", ">= 5")


def _distance(step: Step, layer: torch.nn.Module, x: Tensor, inputs: list[Any]) -> float:
    """How far a stream lies from the whole sequence at once."""
    steps = [torch.as_tensor(step(x_t)).clone().reshape(1, -1) for x_t in inputs]
    return distance(torch.stack(steps), layer(x)[0].double())


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
    value = peer.onnxruntime.OrtValue.ortvalue_from_numpy
    return lambda: _onnx_step(session, value, problem.cell.output_size)


def _onnx_step(session: Any, value: Any, hidden: int) -> Step:
    """Bound to its memory, which is faster than `run`; the state goes to and fro between two."""
    x_in = value(np.zeros((1, 1, hidden), np.float32))
    memories = [
        {part: value(np.zeros((1, 1, hidden), np.float32)) for part in "hc"} for _ in range(2)
    ]
    y = np.zeros((1, 1, 1, hidden), np.float32)
    y_out = value(y)
    turns = []
    for old, new in (memories, memories[::-1]):
        turn = session.io_binding()
        turn.bind_ortvalue_input("x", x_in)
        turn.bind_ortvalue_output("Y", y_out)
        for part in "hc":
            turn.bind_ortvalue_input(f"{part}0", old[part])
            turn.bind_ortvalue_output(part, new[part])
        turns.append(turn)

    def step(x: NDArray[Any]) -> NDArray[Any]:
        x_in.update_inplace(x[None])
        session.run_with_iobinding(turns[0])
        turns.reverse()
        return y

    return step


def _products(hidden: int) -> dict[str, Callable[[], Any]]:
    """The products of one step as one mat-vec [4H, I + H], and what the call alone costs."""

    def product(rows: int, columns: int) -> Callable[[], Any]:
        out = torch.empty(rows)
        return partial(torch.mv, torch.ones(rows, columns), torch.ones(columns), out=out)

    return {PRODUCT: product(4 * hidden, 2 * hidden), CALL: product(1, 1)}
