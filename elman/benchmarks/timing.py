"""Times that can be compared: everyone in turn, again and again, in one run."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from elman.benchmarks.problem import Results

#: Seconds before each block, in which the threads of the one before stop spinning.
SETTLE = 0.02
#: Seconds that a block of short calls lasts.
BLOCK = 0.012
ROUNDS = (3, 40)
#: Who is so many times slower than the fastest is timed at the start alone.
HOPELESS = 3.0


@dataclass(frozen=True)
class Contestant:
    """One way to compute a problem.

    run: what is timed. results: what it returned, by name. threads: torch's, while it runs.
    """

    name: str
    setting: str
    run: Callable[[], Any]
    results: Callable[[Any], Results]
    threads: int | None = None


@dataclass(frozen=True)
class Times:
    """Milliseconds a call: the median of the blocks and the shortest; of ``calls`` in all."""

    median_ms: float
    min_ms: float
    calls: int
    setting: str


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """torch with so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def block(contestant: Contestant, expected: float) -> tuple[float, int]:
    """Seconds a call, over one block of calls that take about ``expected`` each."""
    calls = max(1, int(BLOCK / max(expected, 1e-6)))
    with threads(contestant.threads):
        time.sleep(SETTLE)
        if expected < BLOCK:
            contestant.run()
        begin = time.perf_counter()
        for _ in range(calls):
            contestant.run()
        return (time.perf_counter() - begin) / calls, calls


def first_look(contestant: Contestant) -> float:
    """Seconds a call after the first, or of the first where it is long."""
    with threads(contestant.threads):
        begin = time.perf_counter()
        contestant.run()
        first = time.perf_counter() - begin
    again = [block(contestant, first)[0]] if first < 2 else [first]
    if again[0] < 0.1:
        again.append(block(contestant, again[0])[0])
    return min(again)


def race(
    settings: dict[str, list[Contestant]], budget: float, hopeless: float = HOPELESS
) -> dict[str, Times]:
    """Time everyone at the best of their settings, in turn until ``budget`` seconds are over.

    settings: for each name the ways to run it, the fastest of which takes part. The first name
    always runs to the end; of the others those that take at most ``hopeless`` times as long as
    the fastest of them.
    """
    chosen, looked = {}, {}
    for name, ways in settings.items():
        seconds = [first_look(way) for way in ways]
        looked[name] = min(seconds)
        chosen[name] = ways[seconds.index(looked[name])]
    ours = next(iter(settings))
    others = [seconds for name, seconds in looked.items() if name != ours]
    limit = hopeless * min(others, default=0.0)
    running = [name for name in chosen if name == ours or looked[name] <= limit]
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in chosen}
    gc.collect()
    gc.disable()
    try:
        _rounds({name: chosen[name] for name in running}, looked, found, budget)
    finally:
        gc.enable()
    return {name: _times(found[name] or [(looked[name], 1)], chosen[name]) for name in chosen}


def compare(runs: dict[str, Callable[[], Any]], budget: float) -> dict[str, float]:
    """Median milliseconds a call of each, in turn in one run."""
    entries = {name: [Contestant(name, "", run, lambda _: {})] for name, run in runs.items()}
    return {name: t.median_ms for name, t in race(entries, budget, float("inf")).items()}


def _rounds(
    running: dict[str, Contestant],
    looked: dict[str, float],
    found: dict[str, list[tuple[float, int]]],
    budget: float,
) -> None:
    end = time.perf_counter() + budget
    for done in range(ROUNDS[1]):
        if done >= ROUNDS[0] and time.perf_counter() > end:
            return
        for name, contestant in running.items():
            found[name].append(block(contestant, looked[name]))


def _times(blocks: list[tuple[float, int]], contestant: Contestant) -> Times:
    seconds = [s for s, _ in blocks]
    calls = sum(count for _, count in blocks)
    median, least = statistics.median(seconds), min(seconds)
    return Times(1000 * median, 1000 * least, calls, contestant.setting)
