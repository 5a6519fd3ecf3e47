"""The grid of `elman bench` on a GPU: torch.nn (cuDNN) beside elman, and what a new cell costs.

    python benchmarks/gpu.py --json gpu.json

Milliseconds a call, forward alone and forward + backward: the median of blocks of calls, each block
ended by a synchronisation. float32 is that of 24 bits; TF32 is torch's default for cuDNN. Every
result in float32 is compared with the float64 loop before it is timed. elman has no kernels of its
own for GPUs yet: LSTM, GRU and Elman cells run on torch's, every other cell on the eager backend,
whose times stand beside the literal loop's.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import elman
from elman.benchmarks.grid import FULL, QUICK, Point, points_of
from elman.benchmarks.problem import (
    TOLERANCE,
    Problem,
    Results,
    largest_distance,
    literal_loop,
    named_results,
    reference,
    torch_names,
    torch_run,
)
from elman.benchmarks.subjects import subject_named
from elman.data.core.files import write_text

DEVICE = "cuda"
#: torch.nn's modules in these; a cell of one's own in float32 alone.
PRECISIONS = ("float32", "TF32", "bfloat16")


@dataclass(frozen=True)
class Entry:
    """One number: milliseconds of one way to run one cell at one point; error: in float32."""

    cell: str
    point: str
    training: bool
    way: str
    milliseconds: float | None
    error: float | None = None


def on_gpu(problem: Problem, kind: torch.dtype = torch.float32) -> Problem:
    """The same on the GPU."""
    cell = copy.deepcopy(problem.cell).to(DEVICE, kind)
    x, cotangent = problem.x.to(DEVICE, kind), problem.cotangent.to(DEVICE, kind)
    return Problem(problem.subject, cell, x, cotangent, problem.training)


def set_precision(name: str) -> None:
    """float32 with all its bits, but where TF32 is what is measured."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = name == "TF32"


def milliseconds(run: Callable[[], Any], budget: float) -> float:
    """The median over blocks of calls that take some 10 ms each."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    torch.cuda.synchronize()
    once = time.perf_counter() - begin
    calls, blocks = max(1, int(0.01 / once)), []
    end = time.perf_counter() + budget
    while len(blocks) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        torch.cuda.synchronize()
        blocks.append((time.perf_counter() - begin) / calls)
    return 1000 * statistics.median(blocks)


def error(run: Callable[[], Any], module: torch.nn.Module, right: Results, train: bool) -> float:
    """How far the results lie from the float64 loop."""
    found = named_results(torch_names(module), run())
    return largest_distance({name: t.cpu() for name, t in found.items()}, right, train)[0]


def entries(name: str, point: Point, training: bool, budget: float) -> Iterator[Entry]:
    """All ways to run a cell at a point."""
    subject = subject_named(name)
    problem = Problem.make(subject, point, training)
    right = {n: t.cpu() for n, t in reference(on_gpu(problem)).items()}
    here = on_gpu(problem)
    ways: dict[str, tuple[str, torch.nn.Module, Callable[[Any], Any], Problem]] = {}
    recurrent = elman.Recurrent(here.cell)
    ways["elman"] = ("float32", recurrent, lambda x: recurrent(x)[0], here)
    if subject.torch_nn is None:
        ways["loop"] = ("float32", here.cell, lambda x: literal_loop(here.cell, x), here)
    else:
        for kind in PRECISIONS:
            given = on_gpu(problem, torch.bfloat16) if kind == "bfloat16" else here
            peer = subject.peer(given.cell)
            assert peer is not None
            peer = peer.to(DEVICE, given.x.dtype)
            ways[f"torch.nn {kind}"] = (kind, peer, lambda x, peer=peer: peer(x)[0], given)
    for way, (kind, module, forward, given) in ways.items():
        module.train(training)
        set_precision(kind)
        run = torch_run(given, forward, module)
        off = error(run, module, right, training) if kind == "float32" else None
        wrong = off is not None and not off <= TOLERANCE
        took = None if wrong else milliseconds(run, budget)
        yield Entry(name, str(point), training, way, took, off)


def main() -> None:
    """Measure, print a table for each cell and mode, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--grid", nargs="+", default=[], help="as of `elman bench`")
    parser.add_argument("--cell", nargs="+", default=["lstm", "gru", "elman"], help="on the grid")
    parser.add_argument("--own", nargs="*", default=["custom"], help="on the quick grid")
    parser.add_argument("--budget", type=float, default=0.15, help="seconds of repeats a number")
    parser.add_argument("--json", type=Path, help="write all of it here")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this machine has no CUDA device: nothing to measure")
    grid = points_of(options.grid) if options.grid else FULL
    found: list[Entry] = []
    for cells, points in ((options.cell, grid), (options.own, QUICK)):
        for cell in cells:
            for training in (False, True):
                here = [
                    e for point in points for e in entries(cell, point, training, options.budget)
                ]
                show(cell, training, here)
                found += here
                if options.json is not None:
                    about = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
                    about |= {"cudnn": torch.backends.cudnn.version()}
                    rows = [vars(e) for e in found]
                    write_text(options.json, json.dumps({**about, "entries": rows}, indent=1))


def show(cell: str, training: bool, entries: list[Entry]) -> None:
    """A row a point, a column a way."""
    ways = list(dict.fromkeys(e.way for e in entries))
    mode = "forward + backward" if training else "inference"
    table = Table("B, H, T", *ways, "error", title=f"{cell}, {mode}, ms", title_justify="left")
    for point in dict.fromkeys(e.point for e in entries):
        here = {e.way: e for e in entries if e.point == point}
        times = [here[way].milliseconds for way in ways]
        errors = max(e.error for e in here.values() if e.error is not None)
        table.add_row(
            point, *("WRONG" if t is None else f"{t:.3f}" for t in times), f"{errors:.1e}"
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
