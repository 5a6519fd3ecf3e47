"""Reading out what connectionist temporal classification says: the best path, the best labels.

Source: Graves et al. 2006; prefix beam search with a language model Hannun et al. 2014.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from elman.errors import ShapeError, require_positive

Floats = NDArray[np.float64]


def required_steps(ids: Sequence[int] | NDArray[Any]) -> int:
    """The least steps that can spell these units: one each, and a blank between equal ones."""
    y = np.asarray(ids)
    return len(y) + int((y[1:] == y[:-1]).sum())


class Collapse:
    """A best path as it comes, step by step: repeats taken together, blanks left out."""

    def __init__(self, blank: int) -> None:
        self.blank = blank
        self.last = blank

    def __call__(self, unit: int) -> int | None:
        """The unit that begins with this step, if one does."""
        begins = unit not in (self.last, self.blank)
        self.last = unit
        return unit if begins else None


def best_paths(log_p: Tensor, lengths: Tensor, blank: int) -> Iterator[list[tuple[int, int]]]:
    """For each sequence the (unit, step) that the likeliest unit of each step collapses to.

    log_p: [T, B, K]   lengths: [B]
    """
    for path, length in zip(log_p.argmax(dim=-1).T.tolist(), lengths.tolist(), strict=True):
        collapse = Collapse(blank)
        steps = ((collapse(unit), step) for step, unit in enumerate(path[:length]))
        yield [(unit, step) for unit, step in steps if unit is not None]


class Prior(Protocol):
    """What units are likely to follow each other, whatever is heard: a language model.

    States are of N rows. A call gives ln p of the next unit [N, V] and of the end [N].
    """

    def first(self) -> tuple[Floats, Floats, Any]:
        """Before the first unit: ln p [1, V], ln p of the end [1], state."""
        ...

    def after(
        self, state: Any, rows: NDArray[Any], units: NDArray[Any]
    ) -> tuple[Floats, Floats, Any]:
        """After one unit more each: rows of a state, units [N]."""
        ...

    def joined(self, first: Any, rows: NDArray[Any], second: Any) -> Any:
        """A state of these rows of the first, then all of the second."""
        ...


@dataclass(frozen=True)
class Labelling:
    """Units that a sound may spell.

    log_probability: ln p(units | x) over the paths that were followed. score: with the prior and
    the length in.
    """

    units: tuple[int, ...]
    log_probability: float
    score: float


def prefix_search(
    log_p: Floats,
    beams: int = 16,
    *,
    prior: Prior | None = None,
    weight: float = 1.0,
    bonus: float = 0.0,
    n_best: int = 1,
) -> list[Labelling]:
    """The labellings y with the highest score, best first.

        score(y) = ln p(y | x) + weight ln p_prior(y) + bonus |y|

    log_p: [T, V + 1], the blank last. beams: prefixes that are kept after each step; with all of
    them the search is exact. Without prior its term is 0.
    """
    require_positive(beams=beams, n_best=n_best)
    if log_p.ndim != 2 or log_p.shape[1] < 2:
        raise ShapeError(f"log_p must be [T, V + 1], got {list(log_p.shape)}")
    search = _Search(log_p.shape[1] - 1, beams, prior, weight, bonus)
    for step in np.asarray(log_p, dtype=np.float64):
        search.step(step)
    return search.best(n_best)


class _Search:
    """The prefixes that are followed, a row each.

    blank, unit: ln p of the paths so far that end with a blank, and with the prefix's last unit.
    added: what prior and bonus give the prefix. node: its number in the tree of prefixes.
    """

    def __init__(
        self, vocab_size: int, beams: int, prior: Prior | None, weight: float, bonus: float
    ) -> None:
        self.beams, self.prior, self.weight, self.bonus = beams, prior, weight, bonus
        self.blank, self.unit, self.added = np.zeros(1), np.full(1, -np.inf), np.zeros(1)
        self.node = np.zeros(1, dtype=np.int64)
        # Of each node: its parent and the unit that it adds.
        self.tree: list[tuple[int, int]] = [(-1, -1)]
        self.number: dict[tuple[int, int], int] = {}
        self.next, self.end, self.state = np.zeros((1, vocab_size)), np.zeros(1), None
        if prior is not None:
            self.next, self.end, self.state = prior.first()

    def step(self, log_p: Floats) -> None:
        parents, last = np.array([self.tree[n] for n in self.node.tolist()]).T
        total = np.logaddexp(self.blank, self.unit)
        stay_blank = total + log_p[-1]
        stay_unit = np.where(last >= 0, self.unit + log_p[last], -np.inf)
        longer = total[:, None] + log_p[:-1]
        some = np.flatnonzero(last >= 0)
        # Without a blank between, a repeated unit is the same one.
        longer[some, last[some]] = self.blank[some] + log_p[last[some]]
        row_of = {node: row for row, node in enumerate(self.node.tolist())}
        for row in some.tolist():
            parent = row_of.get(int(parents[row]))
            if parent is not None:  # its longer form is followed already
                stay_unit[row] = np.logaddexp(stay_unit[row], longer[parent, last[row]])
                longer[parent, last[row]] = -np.inf
        self._choose(stay_blank, stay_unit, longer)

    def _choose(self, stay_blank: Floats, stay_unit: Floats, longer: Floats) -> None:
        rows, units = longer.shape
        added = self.added[:, None] + self.weight * self.next + self.bonus
        score = np.concatenate(
            [np.logaddexp(stay_blank, stay_unit) + self.added, (longer + added).ravel()]
        )
        # At least one can be followed: the blank never has no probability at all.
        chosen = np.argsort(-score, kind="stable")[: self.beams]
        chosen = chosen[score[chosen] > -np.inf]
        stay, grow = chosen[chosen < rows], chosen[chosen >= rows] - rows
        above, unit = np.divmod(grow, units)
        nodes = [
            self._node(int(self.node[r]), u) for r, u in zip(above, unit.tolist(), strict=True)
        ]
        self.node = np.concatenate([self.node[stay], np.array(nodes, dtype=np.int64)])
        self.blank = np.concatenate([stay_blank[stay], np.full(len(grow), -np.inf)])
        self.unit = np.concatenate([stay_unit[stay], longer[above, unit]])
        self.added = np.concatenate([self.added[stay], added[above, unit]])
        self._ask_prior(stay, above, unit)

    def _ask_prior(self, stay: NDArray[Any], above: NDArray[Any], unit: NDArray[Any]) -> None:
        if self.prior is None:
            self.next = np.zeros((len(self.node), self.next.shape[1]))
            self.end = np.zeros(len(self.node))
            return
        self.next, self.end = self.next[stay], self.end[stay]
        if len(unit):
            found, end, state = self.prior.after(self.state, above, unit)
            self.next = np.concatenate([self.next, found])
            self.end = np.concatenate([self.end, end])
        self.state = self.prior.joined(self.state, stay, state if len(unit) else None)

    def _node(self, parent: int, unit: int) -> int:
        number = self.number.setdefault((parent, unit), len(self.tree))
        if number == len(self.tree):
            self.tree.append((parent, unit))
        return number

    def best(self, count: int) -> list[Labelling]:
        total = np.logaddexp(self.blank, self.unit)
        score = total + self.added + self.weight * self.end
        order = np.argsort(-score, kind="stable")[:count].tolist()
        return [
            Labelling(self._units(int(self.node[r])), float(total[r]), float(score[r]))
            for r in order
        ]

    def _units(self, node: int) -> tuple[int, ...]:
        found = []
        while node:
            node, unit = self.tree[node]
            found.append(unit)
        return tuple(reversed(found))
