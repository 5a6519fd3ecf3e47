"""Buffers of which every byte outside is watched, in place of those that kernels are given.

Run as a program, it solves problems between pages that nobody may touch: a kernel that reads or
writes one number too many ends the process.

    python -m tests.backends.cpu.guards                         the awkward ones below
    python -m tests.backends.cpu.guards --configurations 2000   random ones
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from elman.backends.cpu import program
from elman.backends.cpu.jit.target import host
from elman.backends.cpu.threads.partition import Partition, Workload
from elman.cells import CELLS
from elman.errors import OptionError
from tests.backends.support import Oracle, mistakes, oracle, problem, randomised

#: Bytes watched on each side, and what stands there: NaN in every type of floating point.
MARGIN, CANARY = 4096, 0xFF

#: Cells with all that a kernel does, of sizes that no vector divides: (cell, I, H, dtype).
AWKWARD = (
    ("lstm", 3, 17, torch.float32),
    ("layer-norm-lstm", 5, 7, torch.float64),
    ("projected-lstm", 2, 33, torch.float32),
    ("rhn", 1, 1, torch.float64),
)
BATCHES = (1, 3, 17)


def awkward(name: str, I: int, H: int, dtype: torch.dtype) -> Iterator[Oracle]:
    """Problems for one plan of a cell, whole and ragged, forwards and backwards."""
    cell = randomised(CELLS[name](I, H).double())
    for B in BATCHES:
        yield oracle(problem(cell, 4, B, "dropout", "zoneout", "state", seed=B), dtype)
        options = ("lengths", "reset", "truncate", "reverse")
        yield oracle(problem(cell, 5, B, "dropout", "zoneout", *options, seed=B), dtype)


@dataclass(frozen=True)
class Configuration:
    """A problem, and how it is run."""

    right: Oracle
    isa: str
    threads: int
    units: bool
    at_end: bool

    def __str__(self) -> str:
        p, how = self.right.problem, "units" if self.units else "rows"
        cell = f"{type(p.cell).__name__}({p.cell.input_size}, {p.cell.output_size})"
        run = f"{self.isa or 'host'}, {self.threads} threads, each some {how}, at_end={self.at_end}"
        return f"{cell} {p.label} {list(p.x.shape)} {self.right.dtype}, {run}"


#: How many configurations one compiled plan serves.
EACH = 16
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 33, 40)


def configurations(count: int, first: int = 0) -> Iterator[Configuration]:
    """Random cells, sizes, T, B, options, types, processors and threads; the seeds are fixed."""
    for group in range(first, first + -(-count // EACH)):
        r = random.Random(group)
        name, (I, H) = r.choice(sorted(CELLS)), r.choices(SIZES, k=2)
        cell = randomised(CELLS[name](I, H).double(), seed=group)
        dtype, isa = r.choice([torch.float32, torch.float64]), r.choice([*isas(), ""])
        noise = r.sample(
            ["dropout", r.choice(["zoneout", "rates", "mixed"])], r.choice([0, 0, 1, 2])
        )
        for number in range(min(EACH, count - (group - first) * EACH)):
            options = [o for o in ("lengths", "reset", "truncate", "state") if r.random() < 0.4]
            options += ["reverse"] * (r.random() < 0.3)
            T, B = r.randint(1, 9), r.choice([1, 2, 3, 4, 5, 7, 8, 17, 66])
            made = problem(cell, T, B, *noise, *options, seed=group * EACH + number)
            made = replace(made, all_states=r.random() < 0.5)
            yield Configuration(
                oracle(made, dtype), isa, r.choice([1, 2, 3, 4]), r.random() < 0.5, r.random() < 0.5
            )


def isas() -> list[str]:
    """Those of ELMAN_ISA that this machine has."""
    found = []
    for isa in ("avx512", "avx2", "plain"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ELMAN_ISA", isa)
            with suppress(OptionError):
                host()
                found.append(isa)
    return found


def shared(threads: int, units: bool) -> Callable[..., Partition]:
    """What stands in for `partition`: this number of threads and this way, whatever the sizes."""

    def partition(workload: Workload, *others: Any) -> Partition:
        layout = workload.layout
        if units:
            return Partition(threads, True, (0, layout.batch))
        return Partition(
            threads, False, tuple(layout.batch * i // threads for i in range(threads + 1))
        )

    return partition


# ------------------------------------------------------------------ memory


class Canaries:
    """A buffer with bytes beside it that must stay as they are."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.room = torch.full((MARGIN + size + MARGIN,), CANARY, dtype=torch.uint8)
        self.address = self.room.data_ptr() + MARGIN

    def unharmed(self) -> bool:
        """Whether nothing was written outside."""
        sides = self.room[:MARGIN], self.room[MARGIN + self.size :]
        return all(bool((side == CANARY).all()) for side in sides)


class Pages:
    """A buffer that ends, or begins, at a page that can be neither read nor written."""

    def __init__(self, size: int, at_end: bool) -> None:
        self.size = size
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.mmap.restype = ctypes.c_void_p
        self.libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3]
        self.libc.mmap.argtypes += [ctypes.c_long]
        self.libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        page = 4096
        inside = -(-max(size, 1) // page) * page
        self.whole = inside + 2 * page
        private, anonymous, read_write = 2, 0x20, 3
        self.base = self.libc.mmap(None, self.whole, read_write, private | anonymous, -1, 0)
        assert self.base not in (None, ctypes.c_void_p(-1).value), ctypes.get_errno()
        for side in (self.base, self.base + page + inside):
            assert self.libc.mprotect(side, page, 0) == 0
        first = self.base + page
        ctypes.memset(first, CANARY, inside)
        self.address = first + inside - size if at_end else first

    def unharmed(self) -> bool:
        return True  # the process would not be here

    def __del__(self) -> None:
        self.libc.munmap(self.base, self.whole)


@contextmanager
def watched(monkeypatch: Any, make: Callable[[int], Any]) -> Iterator[list[int]]:
    """Every kernel gets copies of its buffers in memory that ``make`` makes.

    Yields a list to which each run adds the number of its buffers.
    """
    placed: dict[int, tuple[Tensor, Any]] = {}
    counts: list[int] = []
    prepare, run = program.Arguments.__init__, program.openmp.run

    def place(self: Any, name: str, tensor: Tensor, count: int) -> None:
        at = self._places.get(name)
        if at is None:
            return
        assert tensor.is_contiguous() and tensor.numel() == count
        self.keep.append(tensor)
        size, address = tensor.numel() * tensor.element_size(), tensor.data_ptr()
        if address not in placed or placed[address][1].size < size:
            buffer = make(size)
            ctypes.memmove(buffer.address, address, size)
            placed[address] = tensor, buffer
        self.array[at] = placed[address][1].address

    def prepared(self: Any, loop: Any, plan: Any, run_buffers: Any, *others: Any) -> None:
        placed.clear()
        loop.frames.clear()
        prepare(self, loop, plan, run_buffers, *others)
        self.frame.threads = 0  # no later run takes this frame, whose buffers will be gone
        size = self.array[loop.places["stride"]] * self.partition.threads
        layout = run_buffers.layout
        buffers = {"workspace": torch.empty(size, dtype=torch.uint8)} | self.frame.room
        buffers |= {"starts": layout.starts, "counts": layout.counts, "flags": layout.row_flags}
        for name, tensor in buffers.items():
            place(self, name, tensor, tensor.numel())

    def checked(*arguments: Any) -> None:
        run(*arguments)
        for tensor, buffer in placed.values():
            ctypes.memmove(tensor.data_ptr(), buffer.address, buffer.size)
        harmed = [list(t.shape) for t, buffer in placed.values() if not buffer.unharmed()]
        counts.append(len(placed))
        assert not harmed, f"written outside buffers of the shapes {harmed}"

    monkeypatch.setattr(program.Arguments, "place", place)
    monkeypatch.setattr(program.Arguments, "__init__", prepared)
    monkeypatch.setattr(program.openmp, "run", checked)
    yield counts


def solve_awkward() -> list[str]:
    """What goes wrong with the awkward problems between forbidden pages."""
    wrong = []
    problems = [right for case in AWKWARD for right in awkward(*case)]
    for at_end in (True, False):
        for units in (True, False):
            for right in problems:
                wrong += solved(Configuration(right, "", 2, units, at_end))
    return wrong


def solved(asked: Configuration) -> list[str]:
    """What goes wrong with one configuration between forbidden pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELMAN_ISA", asked.isa)
        patch.setattr(program, "partition", shared(asked.threads, asked.units))
        with watched(patch, lambda size: Pages(size, asked.at_end)) as counts:
            wrong = list(mistakes(asked.right, "llvm"))
        walked = asked.right.problem.sequence.lengths
        assert counts or (walked is not None and not walked.any()), "no kernel ran"
    return wrong


def main() -> None:
    """Solve problems between forbidden pages; exit with what went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--configurations", type=int, help="so many random ones")
    parser.add_argument("--first", type=int, default=0, help=f"the first seed, one for {EACH}")
    given = parser.parse_args()
    faulthandler.enable()
    torch.set_num_threads(4)
    if given.configurations is None:
        sys.exit("\n".join(solve_awkward()) or 0)
    wrong, done = [], 0
    for asked in configurations(given.configurations, given.first):
        print(asked, file=sys.stderr)  # the last line where the process ends here
        wrong += solved(asked)
        done += 1
    print(f"{done} configurations, {len(wrong)} wrong answers")
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
