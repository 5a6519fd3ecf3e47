"""How the work of a loop is shared between threads."""

from __future__ import annotations

from dataclasses import dataclass

from elman.backends.llvm import team
from elman.backends.llvm.target import Target
from elman.backends.walk import Walk

#: Bytes of weights times rows, of a step, below which a step is quicker alone than the others
#: are met after it; and of a whole run, below which it is not worth waking them.
STEP, RUN = 48 * 1024, 1 << 20


@dataclass(frozen=True)
class Share:
    """threads: how many. units: they share the units of each step, and meet after it; else each
    has rows of its own, from bounds[i] to bounds[i + 1]."""

    threads: int
    units: bool
    bounds: tuple[int, ...]


def share(walk: Walk, weights: int, target: Target) -> Share:
    """Split the rows while a core's L2 cache holds the weights and each has rows enough for its
    tiles; split the units where it does not."""
    threads = team.max_threads()
    whole = (0, walk.batch)
    work = max(weights, 1024)
    if threads == 1 or work * walk.rows < RUN:
        return Share(1, False, whole)
    rows = walk.batch // threads
    fits = weights <= 0.75 * target.l2
    if (rows >= 4 and (fits or rows >= 48)) or (rows and work * walk.batch < STEP):
        return Share(threads, False, _bounds(walk, threads))
    return Share(1, False, whole) if work * walk.batch < STEP else Share(threads, True, whole)


def _bounds(walk: Walk, threads: int) -> tuple[int, ...]:
    """Where to cut the batch so that each part has about as many steps to do."""
    if walk.source is None:
        return tuple(walk.batch * i // threads for i in range(threads + 1))
    done = walk.lengths.cumsum(0)
    total = int(done[-1])
    cuts = [int((done < total * i / threads).sum()) for i in range(1, threads)]
    return (0, *cuts, walk.batch)
