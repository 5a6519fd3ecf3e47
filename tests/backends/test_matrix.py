"""Every cell on every backend in every dtype and shape with every option, against the loop.

The whole product is far too large. Each `Chosen` is one compiled plan that solves a few problems;
together they meet every pair that `test_every_pair_is_met` names. ELMAN_TEST_MATRIX=full runs
many more.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import pytest
import torch

from elman.runtime.dispatch import ENGINES
from tests.backends.support import mistakes, oracle, problem, randomised
from tests.cells.cases import OPTIONS, PLAIN, UNBIASED, Case

FULL = os.environ.get("ELMAN_TEST_MATRIX") == "full"
BACKENDS = tuple(sorted(ENGINES))
DTYPES = (torch.float32, torch.float64)
TS, BS, HS = (1, 2, 63), (1, 3, 17, 64), (1, 7, 33, 128, 500)

#: What one plan of a cell can do: the noise is a part of the plan.
QUIET = (
    ("plain",),
    ("lengths",),
    ("reset",),
    ("truncate",),
    ("state",),
    ("reverse",),
    ("lengths", "reset", "truncate", "state", "reverse"),
)
EVERYTHING = ("lengths", "reset", "truncate", "state", "reverse")


def noisy(kind: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return kind, (*kind, *EVERYTHING)


@dataclass(frozen=True)
class Chosen:
    """A cell of one size, and the problems that its plan solves: (T, B, options)."""

    case: Case
    dtype: torch.dtype
    problems: tuple[tuple[int, int, tuple[str, ...]], ...]
    backends: tuple[str, ...] = BACKENDS

    def __str__(self) -> str:
        options = self.problems[0][2]
        kind = "quiet" if options == ("plain",) else "+".join(options)
        return f"{self.case}-{str(self.dtype)[6:]}-{kind}"


class Choice:
    """Draws sizes so that all are met in turn, in an order drawn from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        # Long sequences and wide states seldom, and never both: the literal loop is slow.
        self.widths = self._cycle([1, 7, 33, 128, 7, 33, 1, 33, 500, 7])
        self.inputs = self._cycle([2, 5, 12, 40])
        self.small = self._cycle([*product((1, 2), BS)] * 3 + [*product((63,), (1, 3, 17))])
        self.long = self._cycle([*product(TS, BS)])
        self.wide = self._cycle([*product((1, 2), BS), (2, 3), (63, 1), (63, 3)])
        self.dtypes = self._cycle(list(DTYPES))

    def _cycle(self, values: list) -> Iterator:
        while True:
            self.random.shuffle(values)
            yield from values

    def sized(self, case: Case) -> Case:
        """The case with other sizes, as far as its options allow."""
        square = case.sizes[0] == case.sizes[1]
        least = max([1, *(v for k, v in case.options.items() if k == "proj_size")])
        H = next(h for h in self.widths if h >= least)
        I = H if square and case.cell.__name__ == "SRU" else next(self.inputs)
        return replace(case, sizes=(I if I != H or square else I + 1, H))

    def of(self, case: Case, kinds: tuple[tuple[str, ...], ...], **options) -> Chosen:
        case = self.sized(case)
        shapes = self.wide if case.sizes[1] == 500 else self.small
        if case.sizes[1] <= 33 and kinds is QUIET:
            shapes = self.long
        problems = tuple((*next(shapes), kind) for kind in kinds)
        return Chosen(case, next(self.dtypes), problems, **options)


def chosen(seed: int) -> Iterator[Chosen]:
    """Each plain case as it is and with noise; each variant as it is, or with noise on eager."""
    choice = Choice(seed)
    for number, case in enumerate(PLAIN):
        yield choice.of(case, QUIET)
        yield choice.of(case, noisy(("dropout", "mixed") if number % 2 else ("rates",)))
        yield choice.of(case, noisy(("dropout", "zoneout")), backends=("eager",))
    for number, case in enumerate([*OPTIONS, *UNBIASED]):
        few = tuple(choice.random.sample(QUIET, 3))
        # A case without biases differs little from the case with them, and compiling takes time.
        compiled = number < len(OPTIONS) or number % 5 == 0
        yield choice.of(case, few, backends=BACKENDS if compiled else ("eager",))


def every() -> list[Chosen]:
    if not FULL:
        return list(chosen(seed=0))
    found = [replace(c, backends=BACKENDS) for seed in range(6) for c in chosen(seed)]
    kinds = [noisy(k) for k in (("dropout",), ("zoneout",), ("rates",), ("dropout", "mixed"))]
    choice = Choice(100)
    found += [choice.of(case, kind) for case in [*OPTIONS, *UNBIASED] for kind in [QUIET, *kinds]]
    return found


CHOSEN = every()


@pytest.mark.parametrize("chosen", CHOSEN, ids=str)
def test_a_backend_computes_what_the_loop_computes(chosen: Chosen, float64) -> None:
    cell = randomised(chosen.case.build())
    wrong = [
        failure
        for seed, (T, B, options) in enumerate(chosen.problems)
        for right in [oracle(problem(cell, T, B, *options, seed=seed), chosen.dtype)]
        for failure in mistakes(right, *chosen.backends)
    ]
    assert not wrong, "\n".join([str(chosen), *wrong])


def test_every_pair_is_met() -> None:
    met = set()
    for c in CHOSEN:
        cell, H = c.case.cell.__name__, c.case.sizes[1]
        for backend, (T, B, options) in product(c.backends, c.problems):
            axes = [f"dtype {c.dtype}", f"T {T}", f"B {B}", f"H {H}", f"cell {cell}"]
            axes += [f"option {option}" for option in options]
            met |= {(backend, a, b) for a in axes for b in axes}
    sizes = [f"{name} {n}" for name, ns in (("T", TS), ("B", BS), ("H", HS)) for n in ns]
    options = ["plain", "lengths", "reset", "truncate", "state", "reverse"]
    named = [f"option {o}" for o in options]
    noise = [f"option {o}" for o in ("dropout", "mixed", "rates")]
    cells = [f"cell {case.cell.__name__}" for case in PLAIN]
    wanted = [
        *product(BACKENDS, cells, named),
        *product(BACKENDS, cells, sizes[:3]),
        *product(BACKENDS, [*named, *noise], sizes),
        *product(BACKENDS, [f"dtype {d}" for d in DTYPES], [*sizes, *named, *noise]),
    ]
    missed = [pair for pair in wanted if pair not in met]
    assert not missed, missed


def test_every_case_is_met() -> None:
    met = {(backend, str(replace(c.case, sizes=(0, 0)))) for c in CHOSEN for backend in c.backends}
    for case in [*PLAIN, *OPTIONS]:
        for backend in BACKENDS:
            assert (backend, str(replace(case, sizes=(0, 0)))) in met, (backend, str(case))
