"""The first calls of a process, from several threads at once.

    python -m tests.backends.cpu.first_calls --processes 500

Each process starts eight threads that call three layers for the first time, forward and backward,
and compares what they found with the literal loop; every eighth compiles one layer anew, the others
share their compiled code. A process that crashes, hangs or finds something else is a failure.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable

import torch
from torch import Tensor, nn

import elman
from elman.backends.cpu.jit import library as jit
from elman.backends.cpu.threads import openmp

MODULE = "tests.backends.cpu.first_calls"
THREADS, CALLS = 8, 3
I, H, T, B = 6, 16, 6, 8
#: Long enough that one run is shared between two threads.
LONG = 20


def _bidirectional() -> nn.Module:
    return elman.Bidirectional(elman.cells.GRU(I, H), elman.cells.GRU(I, H))


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: elman.LSTM(I, H),
    "GRU": lambda: elman.GRU(I, H, num_layers=2),
    "RNN": lambda: elman.RNN(I, H, bidirectional=True),
    "MGU": lambda: elman.Recurrent(elman.cells.MGU(I, H)),
    "LayerNormLSTM": lambda: elman.Recurrent(elman.cells.LayerNormLSTM(I, H)),
    "Bidirectional": _bidirectional,
}


def answers(layer: nn.Module, x: Tensor, backward: bool) -> list[Tensor]:
    """The outputs, and the gradient of each parameter where it runs backward."""
    if not backward:
        with torch.no_grad():
            return [layer(x)[0]]
    y = layer(x)[0]
    return [y.detach(), *torch.autograd.grad(y.square().sum(), list(layer.parameters()))]


def one_process(seed: int) -> list[str]:
    """What went wrong in eight threads."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(r.choice([1, 2, 4]))
    names = r.sample(sorted(LAYERS), 1 if _is_cold(seed) else 3)
    layers = {name: LAYERS[name]().double() for name in names}
    xs = [torch.randn(r.choice([T, LONG]), B, I, dtype=torch.float64) for _ in range(2)]
    work = [
        [(r.choice(names), r.randrange(2), r.random() < 0.5) for _ in range(CALLS)]
        for _ in range(THREADS)
    ]
    start, wrong = threading.Barrier(THREADS), []
    found: list[tuple[tuple[str, int, bool], list[Tensor]]] = []

    def run(calls: list[tuple[str, int, bool]]) -> None:
        start.wait()
        try:
            for name, which, backward in calls:
                result = answers(layers[name], xs[which], backward)
                found.append(((name, which, backward), result))
        except BaseException as error:  # of whatever kind: it is told of
            wrong.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=[calls]) for calls in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.environ["ELMAN_BACKEND"] = "loop"
    right = {call: answers(layers[call[0]], xs[call[1]], call[2]) for call, _ in found}
    for call, result in found:
        apart = max(
            float((a - b).abs().max() / (1 + b.abs().max()))
            for a, b in zip(result, right[call], strict=True)
        )
        if not apart < 1e-10:
            wrong.append(f"{call}: {apart} from the loop")
    return wrong


def _is_cold(seed: int) -> bool:
    """Whether the cache of compiled code is empty."""
    return seed % 8 == 0


def failures(processes: int, first: int = 0, fork: bool = False) -> list[str]:
    """Run so many processes; what went wrong in each."""
    wrong = []
    with tempfile.TemporaryDirectory() as warm:
        for seed in range(first, first + processes):
            with tempfile.TemporaryDirectory() as cold:
                cache = cold if _is_cold(seed) else warm
                went = _forked(seed, cache) if fork else _started(seed, cache)
            wrong += [f"seed {seed}: {went}"] if went else []
            print(f"seed {seed}: {went or 'as it should be'}", flush=True)
    return wrong


def _started(seed: int, cache: str) -> str:
    """What went wrong in a new process."""
    command = [sys.executable, "-X", "faulthandler", "-m", MODULE, "--one", str(seed)]
    try:
        done = subprocess.run(
            command, env={**os.environ, "ELMAN_CACHE": cache}, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "hangs"
    return f"exit {done.returncode}: {done.stderr[-2000:]}" if done.returncode else ""


def _forked(seed: int, cache: str) -> str:
    """What went wrong in a copy of this process, which has imported everything and called nothing:
    two seconds less, and as new to whatever is made at the first call."""
    assert not jit._libraries
    child = os.fork()
    if child == 0:
        faulthandler.enable()
        os.environ["ELMAN_CACHE"] = cache
        openmp._forked.clear()  # there was no team that the copy would lack
        signal.alarm(300)
        wrong = one_process(seed)
        print(*wrong, sep="\n", end="", file=sys.stderr, flush=True)
        os._exit(1 if wrong else 0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return f"exit {status}" if status else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=500)
    parser.add_argument("--fork", action="store_true", help="copies of one that has called nothing")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--one", type=int, help="be one of the processes, with this seed")
    asked = parser.parse_args()
    if asked.one is not None:
        sys.exit("\n".join(one_process(asked.one)) or 0)
    wrong = failures(asked.processes, asked.first, asked.fork)
    print(f"{asked.processes} processes of {THREADS} threads: {len(wrong)} failed")
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
