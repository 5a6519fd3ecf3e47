"""One step of a stream: an LSTM, one sequence, one call a step."""

import ctypes
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.backends.cpu.codegen.code import Code, Vector
from elman.backends.cpu.codegen.tile import emit_tile
from elman.backends.cpu.jit.library import load
from elman.backends.cpu.jit.target import host
from elman.benchmarks.finding import Finding, Settings
from elman.benchmarks.grid import Point
from elman.benchmarks.problem import LIMIT, Problem, distance
from elman.benchmarks.subjects import subject_named
from elman.benchmarks.timing import compare, threads

#: One step: x [1, I] -> h [1, H], the state kept inside; of what the library itself takes.
Step = Callable[[Any], Any]
PRODUCT = "bare mat-vec"


def streaming(settings: Settings) -> Iterable[Finding]:
    """Microseconds a step of elman, ONNX Runtime, torch.nn and the matrix product alone."""
    for point in settings.at(Point(1, 64, 1), Point(1, 256, 1)):
        with torch.inference_mode(), threads(1):
            yield from _at(Point(1, point.hidden, 8), settings.budget)


def _at(point: Point, budget: float) -> Iterable[Finding]:
    problem = Problem.make(subject_named("lstm"), point, training=False)
    at = f"LSTM, H = {point.hidden}"
    layer: Any = problem.subject.layer(problem.cell).eval()
    module = problem.subject.peer(problem.cell)
    assert module is not None
    makers: dict[str, Callable[[], Step] | None] = {
        "elman": lambda: layer.stream(batch_size=1),
        "torch.nn": lambda: _torch_step(module),
        "ONNX Runtime": _onnx_step_maker(problem),
    }
    runs: dict[str, Callable[[], Any]] = {}
    for name, make in makers.items():
        if make is None:
            yield Finding("streaming", name, at, None, "us", note="not installed")
            continue
        inputs = list(problem.x.numpy() if name == "ONNX Runtime" else problem.x)
        apart = _distance(make(), layer, problem.x, inputs)
        if apart <= LIMIT:
            runs[name] = partial(make(), inputs[0])
        else:
            yield Finding("streaming", name, at, None, "us", note=f"WRONG: {apart:.1e}")
    found = compare(runs | _products(point.hidden), budget)
    yield from _findings({name: 1000 * ms for name, ms in found.items()}, at)


def _findings(found: dict[str, float], at: str) -> Iterable[Finding]:
    bare = found.pop(PRODUCT) / 1000
    for name, microseconds in found.items():
        yield Finding("streaming", name, at, microseconds, "us")
    note = "packed weights, one core, no call"
    yield Finding("streaming", PRODUCT, at, bare, "us", note=note)
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
    """The products of one step, [4H, I + H] times a vector, a thousand times in one call: packed
    weights, one core, nothing else."""
    ty = Vector("float", host().lanes("float"))
    columns, depth = 4, 2 * hidden
    blocks = -(-4 * hidden // (columns * ty.lanes))
    code = Code()
    tile = emit_tile(code, ty, 1, columns)
    with (
        code.function("void @products(ptr %rows, ptr %W, ptr %acc, i64 %times)"),
        code.loop(0, "%times"),
        code.loop(0, blocks) as block,
    ):
        at = code.gep("%W", code.mul(block.index, depth * columns * ty.lanes), ty.element)
        code.do(
            f"call void @{tile}(ptr %rows, i64 0, i64 {depth}, ptr {at}, ptr %acc, i64 0, i1 true)"
        )
    address = load(code.module(), "products").address("products")
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(address)
    x, acc = torch.ones(depth), torch.ones(columns * ty.lanes)
    weights = torch.ones(blocks * depth * columns * ty.lanes)
    rows = (ctypes.c_void_p * 1)(x.data_ptr())

    def run(_: Any = (x, acc, weights)) -> None:  # the default keeps the memory
        call(ctypes.addressof(rows), weights.data_ptr(), acc.data_ptr(), 1000)

    return {PRODUCT: run}
