"""Layers that live long: millions of steps, many threads, processes that are forked or spawned.

python -m tests.layers.long_life [--steps 10000000] [--seconds 60]
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

import elman
from elman import cells

I = 5


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def layer() -> elman.Stack:
    """A stack of three kinds of layers; the same numbers in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind: Any = {"dtype": torch.float32}
        first = elman.LSTM(I, 16, **kind)
        rest = [cells.GRU(16, 12, **kind), cells.LayerNormLSTM(12, 8, **kind)]
        return elman.Stack([first, *rest])


def stream(steps: int) -> tuple[int, float]:
    """Run a stream: by how many bytes the process has grown, and microseconds a step.

    Raises AssertionError where a state is not finite.
    """
    running = elman.LSTM(I, 16).float().stream()
    xs = torch.randn(64, I).float().unbind()
    for x in xs * 200:
        running(x)
    gc.collect()
    before, start = resident(), time.perf_counter()
    for _ in range(-(-steps // len(xs))):
        for x in xs:
            running(x)
    took = time.perf_counter() - start
    assert all(part.isfinite().all() for parts in running.state for part in parts)
    gc.collect()
    return resident() - before, 1e6 * took / steps


def answers(model: elman.Stack, x: torch.Tensor) -> list[torch.Tensor]:
    """Outputs, and the gradients of x and of every parameter."""
    x = x.clone().requires_grad_()
    y, _ = model(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *model.parameters()])]


def threads(seconds: float, count: int = 8) -> int:
    """Run threads on one layer: how many answers there were, each the bits of one thread.

    Raises AssertionError where one is not.
    """
    model = layer()
    xs = [torch.randn(3 + k % 4, 1 + k % 3, I).float() for k in range(2 * count)]
    right = [answers(model, x) for x in xs]
    until = time.monotonic() + seconds

    def run(number: int) -> int:
        done = 0
        while time.monotonic() < until:
            at = (number + done) % len(xs)
            found = answers(model, xs[at])
            assert all(torch.equal(a, b) for a, b in zip(found, right[at], strict=True))
            done += 1
        return done

    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(run, range(count)))


def answer(seed: int) -> list[list[float]]:
    """What a process answers; numbers, as tensors would share memory."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 4, I, generator=draw, dtype=torch.float32)
    return [t.flatten().tolist() for t in answers(layer(), x)]


class Answers(Dataset[int]):
    """A data set whose samples are made by a layer, in the workers of a loader."""

    def __init__(self) -> None:
        self.model = layer()

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> torch.Tensor:
        with torch.no_grad():
            return self.model(torch.full((4, 2, I), 0.1 * index, dtype=torch.float32))[0]


def processes(method: str, workers: int) -> None:
    """Run a layer here, then in workers. Raises AssertionError where their bits are others."""
    right = [answer(seed) for seed in range(6)]
    torch.mm(torch.randn(400, 400), torch.randn(400, 400))  # torch's threads are awake
    with multiprocessing.get_context(method).Pool(workers) as pool:
        assert pool.map_async(answer, range(6)).get(timeout=120) == right


def loader(method: str) -> None:
    """The same, in the workers of a data loader."""
    data = Answers()
    alone = torch.stack([data[i] for i in range(6)])
    made = DataLoader(data, batch_size=6, num_workers=2, multiprocessing_context=method)
    [found] = list(made)
    assert torch.equal(found, alone)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args()
    grown, each = stream(chosen.steps)
    print(f"{chosen.steps:,} steps: {each:.2f} us each, the process has grown by {grown:,} bytes")
    print(f"8 threads: {threads(chosen.seconds):,} answers, all the bits of one thread")
    for how in ("fork", "spawn"):
        processes(how, workers=2)
        loader(how)
        print(f"workers, {how}: the bits of their parent")
