"""How the work of a loop is shared between threads."""

from __future__ import annotations

from dataclasses import dataclass

from elman.backends.cpu.jit.target import Target
from elman.backends.cpu.threads import openmp
from elman.backends.ragged import RaggedLayout

#: Bytes of weights times rows, of a step, below which a step is quicker alone than the others
#: are met after it; and of a whole run, below which it is not worth waking them.
STEP, RUN = 48 * 1024, 1 << 20


@dataclass(frozen=True)
class Partition:
    """threads: how many. units: they share the units of each step, and meet after it; else each
    has rows of its own, from bounds[i] to bounds[i + 1]."""

    threads: int
    units: bool
    bounds: tuple[int, ...]


@dataclass(frozen=True)
class Workload:
    """What a loop has to do: each of its steps reads so many bytes of weights."""

    layout: RaggedLayout
    weights: int

    @property
    def row(self) -> int:
        """Bytes that one row takes, at the least."""
        return max(self.weights, 1024)

    @property
    def work(self) -> int:
        return self.row * self.layout.rows


def partition(workload: Workload, target: Target, threads: int) -> Partition:
    """Split the rows while a core's L2 cache holds the weights and each has rows enough for its
    tiles; split the units where it does not."""
    layout = workload.layout
    alone = Partition(1, False, (0, layout.batch))
    if threads == 1 or workload.work < RUN:
        return alone
    rows, step = layout.batch // threads, workload.row * layout.batch
    fits = workload.weights <= 0.75 * target.l2
    if (rows >= 4 and (fits or rows >= 48)) or (rows and step < STEP):
        return Partition(threads, False, _bounds(layout, threads))
    return alone if step < STEP else Partition(threads, True, alone.bounds)


def at_once(one: Workload, other: Workload, target: Target) -> bool:
    """Whether two loops are quicker at the same time, each on half of the threads, than one after
    the other on all of them.

    Fewer threads meet less often, or not at all, and have more rows each. It does not pay where
    the work is not worth a second thread, nor where half of the threads would long be done while
    the others still run.
    """
    threads = openmp.max_threads()
    less, more = sorted((one.work, other.work))
    if threads % 2 or 2 * less < RUN:
        return False
    idle = all(partition(workload, target, threads).threads == 1 for workload in (one, other))
    return idle or 3 * less >= 2 * more


def _bounds(layout: RaggedLayout, threads: int) -> tuple[int, ...]:
    """Where to cut the batch so that each part has about as many steps to do."""
    if layout.source is None:
        return tuple(layout.batch * i // threads for i in range(threads + 1))
    done = layout.lengths.cumsum(0)
    total = int(done[-1])
    cuts = [int((done < total * i / threads).sum()) for i in range(1, threads)]
    return (0, *cuts, layout.batch)
