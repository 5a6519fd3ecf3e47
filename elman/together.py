"""Runs of plans that do not wait for each other, as one."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeVar

import torch
from torch import Tensor

from elman.autograd import differentiable
from elman.backends.engine import Planned, Tape
from elman.cells.cell import State
from elman.job import Begun, Job

T = TypeVar("T")


def end_all(begun: Several[Begun]) -> list[tuple[State, State]]:
    """Run the loops and what comes after them: two at the same time where that is quicker."""
    if not _at_once(begun):
        return [run.end(run.job(run.inputs)) for run in begun]
    together = Together([run.job for run in begun], [len(run.inputs) for run in begun])
    inputs = tuple(tensor for run in begun for tensor in run.inputs)
    found = _split(differentiable(together, inputs), together.results)
    return [run.end(part) for run, part in zip(begun, found, strict=True)]


def _at_once(begun: Several[Begun]) -> bool:
    if len(begun) != 2:
        return False
    one, other = (run.job for run in begun)
    training = [
        torch.is_grad_enabled() and any(t.requires_grad for t in run.inputs) for run in begun
    ]
    if training[0] != training[1] or one.engine != other.engine:
        return False
    planned = [Planned(job.plan, job.walk, training[0]) for job in (one, other)]
    return one.engine.at_once(planned[0], planned[1], begun[0].inputs[0].dtype)


@dataclass
class Together:
    """Jobs whose loops run at the same time, forward and backward, as one operation of torch.

    CPU autograd runs its operations one after the other: hence one for all.
    counts: how many inputs each job has; they stand one after the other, as do the results.
    """

    jobs: Several[Job]
    counts: Several[int]

    @property
    def results(self) -> list[int]:
        """How many results each job has."""
        return [job.parts + len(job.plan.states) for job in self.jobs]

    def tape(self, inputs: tuple[Tensor, ...], training: bool) -> list[Tape]:
        parts = zip(self.jobs, _split(inputs, self.counts), strict=True)
        return [job.tape(given, training) for job, given in parts]

    def forward(self, tapes: list[Tape]) -> tuple[Tensor, ...]:
        pairs = list(zip(self.jobs, tapes, strict=True))
        self.jobs[0].engine.forward(*[(job.plan, tape) for job, tape in pairs])
        return tuple(result for job, tape in pairs for result in job.results(tape))

    def forget(self, tapes: list[Tape]) -> None:
        for job, tape in zip(self.jobs, tapes, strict=True):
            job.forget(tape)

    def passed(self, inputs: Several[Tensor]) -> list[Tensor]:
        parts = zip(self.jobs, _split(inputs, self.counts), strict=True)
        return [state for job, given in parts for state in job.passed(given)]

    def read(
        self, tapes: list[Tape], inputs: Several[Tensor], found: tuple[Tensor, ...]
    ) -> list[Tensor]:
        given, results = _split(inputs, self.counts), _split(found, self.results)
        parts = zip(self.jobs, tapes, given, results, strict=True)
        return [kept for job, tape, one, two in parts for kept in job.read(tape, one, two)]

    def backward(
        self, tapes: list[Tape], d_found: tuple[Tensor | None, ...], wanted: list[bool]
    ) -> tuple[Tensor | None, ...]:
        d_parts, needs = _split(d_found, self.results), _split(wanted, self.counts)
        runs = list(zip(self.jobs, tapes, d_parts, needs, strict=True))
        reached = [run for run in runs if _any(run[2])]
        backs = [job.back_tape(tape, d, need) for job, tape, d, need in reached]
        loops = [(run[0].plan, run[1], back) for run, back in zip(reached, backs, strict=True)]
        self.jobs[0].engine.backward(*loops)
        rest = iter(backs)
        found = [
            job.gradients(tape, next(rest), need) if _any(d) else [None] * len(need)
            for job, tape, d, need in runs
        ]
        return tuple(gradient for part in found for gradient in part)

    def again(
        self, tapes: list[Tape], states: Several[Tensor], d_found: Several[Tensor | None]
    ) -> tuple[Tensor | None, ...]:
        given = _split(states, [len(tape.given) + len(tape.own) for tape in tapes])
        d_parts = _split(d_found, self.results)
        found = [
            job.again(tape, state, d) if _any(d) else [None] * count
            for job, tape, state, d, count in zip(
                self.jobs, tapes, given, d_parts, self.counts, strict=True
            )
        ]
        return tuple(gradient for part in found for gradient in part)


def _any(d_found: Several[Tensor | None]) -> bool:
    return any(d is not None for d in d_found)


def _split(flat: Several[T], counts: Several[int]) -> list[tuple[T, ...]]:
    bounds = accumulate(counts, initial=0)
    return [tuple(flat[a:b]) for a, b in pairwise(bounds)]
