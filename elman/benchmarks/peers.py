"""The contestants: elman, and every peer that is installed."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from elman.benchmarks.problem import Problem, literal_loop, named_results, torch_names, torch_run
from elman.benchmarks.timing import Contestant

ELMAN = "elman"
#: The peers that are packages of their own, with what `pip install` needs for them.
PACKAGES = {
    "ONNX Runtime": ("elman.benchmarks.onnx_peer", "onnx onnxruntime"),
    "JAX scan": ("elman.benchmarks.jax_peer", "jax"),
}


def missing() -> dict[str, str]:
    """The peers that are not installed, and what would bring them."""
    found = {name: (_module(name), package) for name, (_, package) in PACKAGES.items()}
    return {n: f"not installed (pip install {p})" for n, (m, p) in found.items() if m is None}


def _module(name: str) -> Any:
    try:
        return import_module(PACKAGES[name][0])
    except ImportError:
        return None


def thread_counts() -> list[int]:
    """One, and torch's own number."""
    return sorted({1, torch.get_num_threads()})


def ours(problem: Problem) -> Contestant:
    """elman's layer as a user has it: with torch's number of threads."""
    layer = problem.subject.layer(problem.cell).train(problem.training)
    return _of_torch(problem, ELMAN, lambda x: layer(x)[0], layer, None)


def peers(problem: Problem, compile_limit: float = 0.0) -> dict[str, list[Contestant]]:
    """The settings of each peer that can run the problem.

    compile_limit: seconds for torch.compile of the loop; 0: without it.
    """
    module = problem.subject.peer(problem.cell)
    found: dict[str, list[Contestant] | None] = {}
    if module is not None:
        module.train(problem.training)
        found["torch.nn"] = _each_count(problem, "torch.nn", lambda x: module(x)[0], module)
    for name in PACKAGES:
        peer = _module(name)
        if peer is not None:
            more = (thread_counts(),) if name == "ONNX Runtime" else ()
            found[name] = peer.contestants(problem, *more)
    loop = partial(literal_loop, problem.cell)
    if module is None:
        found["torch loop"] = _each_count(problem, "torch loop", loop, problem.cell)
    if compile_limit:
        found["compiled loop"] = _compiled(problem, loop, compile_limit)
    return {name: ways for name, ways in found.items() if ways}


def _each_count(
    problem: Problem, name: str, forward: Callable[[Tensor], Tensor], module: nn.Module
) -> list[Contestant]:
    return [_of_torch(problem, name, forward, module, count) for count in thread_counts()]


def _of_torch(
    problem: Problem,
    name: str,
    forward: Callable[[Tensor], Tensor],
    module: nn.Module,
    threads: int | None,
) -> Contestant:
    run = torch_run(problem, forward, module)
    count = threads or torch.get_num_threads()
    setting = f"{count} thread{'s' * (count > 1)}"
    return Contestant(name, setting, run, partial(named_results, torch_names(module)), threads)


class _Expired(BaseException):
    """Not an Exception, so that no compiler takes it for a failure of its own."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def expired(*_: object) -> None:
        raise _Expired

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _compiled(
    problem: Problem, loop: Callable[[Tensor], Tensor], limit: float
) -> list[Contestant] | None:
    """torch.compile of the unrolled loop; None where it fails or takes longer than the limit."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        return None
    torch._dynamo.reset()
    forward: Any = torch.compile(loop, dynamic=False)
    contestant = _of_torch(problem, "compiled loop", forward, problem.cell, None)
    try:
        with _time_limit(limit):
            contestant.run()
    except (_Expired, Exception):
        return None
    return [contestant]
