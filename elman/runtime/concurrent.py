"""Runs of plans that do not wait for each other, as one."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass

import torch
from torch import Tensor

from elman.backends.base import Planned, Tape
from elman.backends.gradients import split
from elman.cells.cell import State
from elman.runtime.function import differentiable
from elman.runtime.launch import Begun, Job


def end_all(begun: Several[Begun]) -> list[tuple[State, State]]:
    """Run the loops and what comes after them: two at the same time where that is quicker."""
    if not _at_once(begun):
        return [run.end(run.job(run.inputs)) for run in begun]
    together = Together([run.job for run in begun], [len(run.inputs) for run in begun])
    inputs = tuple(tensor for run in begun for tensor in run.inputs)
    found = split(differentiable(together, inputs), together.results)
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
        parts = zip(self.jobs, split(inputs, self.counts), strict=True)
        return [job.tape(given, training) for job, given in parts]

    def forward(self, tapes: list[Tape]) -> tuple[Tensor, ...]:
        pairs = list(zip(self.jobs, tapes, strict=True))
        self.jobs[0].engine.forward(*[(job.plan, tape) for job, tape in pairs])
        return tuple(result for job, tape in pairs for result in job.results(tape))

    def unrolled(self, inputs: Several[Tensor]) -> tuple[Tensor, ...]:
        parts = zip(self.jobs, split(inputs, self.counts), strict=True)
        return tuple(result for job, given in parts for result in job.unrolled(given))

    def kept(
        self, tapes: list[Tape], inputs: Several[Tensor], found: Several[Tensor]
    ) -> list[Tensor]:
        given, results = split(inputs, self.counts), split(found, self.results)
        runs = zip(self.jobs, tapes, given, results, strict=True)
        return [tensor for job, tape, one, two in runs for tensor in job.kept(tape, one, two)]

    def released(self, tapes: list[Tape]) -> Together:
        pairs = zip(self.jobs, tapes, strict=True)
        return Together([job.released(tape) for job, tape in pairs], self.counts)

    def restored(self, kept: Several[Tensor]) -> list[Tape]:
        return [job.restored(own) for job, own in self._each(kept)]

    def _each(self, kept: Several[Tensor]) -> list[tuple[Job, tuple[Tensor, ...]]]:
        """Each job with what was kept of it."""
        counts = [sum(job.kept_counts) for job in self.jobs]
        return list(zip(self.jobs, split(kept, counts), strict=True))

    def backward(
        self, tapes: list[Tape], d_found: Several[Tensor | None], wanted: list[bool]
    ) -> tuple[Tensor | None, ...]:
        d_parts, needs = split(d_found, self.results), split(wanted, self.counts)
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
        self, kept: Several[Tensor], d_found: Several[Tensor | None]
    ) -> tuple[Tensor | None, ...]:
        runs = zip(self._each(kept), split(d_found, self.results), self.counts, strict=True)
        found = [job.again(own, d) if _any(d) else [None] * count for (job, own), d, count in runs]
        return tuple(gradient for part in found for gradient in part)


def _any(d_found: Several[Tensor | None]) -> bool:
    return any(d is not None for d in d_found)
