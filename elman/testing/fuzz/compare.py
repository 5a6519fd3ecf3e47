"""Whether a program came out as the literal loop says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from elman.backends.reference.tolerance import TOLERANCE, difference
from elman.errors import BackendError, ElmanError
from elman.testing.fuzz.programs import Outcome, Program, Raised, play

#: Tensors of smaller numbers count as that large.
FLOOR = 1e-2
#: What the loop says of a graph that it has freed, and that elman may still have: gradients of
#: second order do not go through the nodes of the first.
FREED = "backward through the graph a second time"
#: What the loop says where what it saves under a checkpoint is other the second time: parameters
#: were frozen since. elman saves the same.
OTHERWISE = "tensors was saved during the original forward and recomputation"
#: What the loop says under a checkpoint of results that have no graph. Those of elman may have one
#: whose gradients are all 0.
NO_GRAPH = "none of output has requires_grad=True"
#: What the loop says in segments, where all weights are a part of the graph, of one that no step
#: reads. Plans are given those that they read.
CHANGED = "modified by an inplace operation"
#: What elman may refuse where the loop does not: the error, what it says, and what stands in the
#: act or the layer.
ALLOWED: dict[str, tuple[type[Exception], str, str]] = {
    "a backend that was asked for by name has no way to run it": (
        BackendError, "backend='(llvm|eager)' cannot run", "",
    ),
    "what the backward pass reads was changed in place: change a copy": (
        RuntimeError, "change a copy of them", "changed'",
    ),
    "weights were changed in place that the backward pass of an earlier call reads": (
        RuntimeError, "change a copy of them", "attached",
    ),
    "the graph of a carried state is freed, and the loop hands that part through": (
        RuntimeError, FREED, "attached",
    ),
    "the same, in torch's words, of a part of the input": (
        RuntimeError, "modified (by an )?in-?place", "changed'",
    ),
    "the same, of a weight that no step reads, where the loop runs in segments": (
        RuntimeError, "modified by an inplace operation", "('memory', ",
    ),
}  # fmt: skip
#: Exceptions that say that something is not to be had, whoever raises them.
PLAIN = (RuntimeError, ElmanError, ValueError, NotImplementedError)


class Verdict(Enum):
    """How a program came out."""

    SAME = "same"
    BOTH_RAISE = "both raise"
    REFUSED = "refused"
    NOT_FINITE = "not finite"
    WRONG = "wrong"


@dataclass(frozen=True)
class Judged:
    """How a program came out.

    text: what is wrong, or which refusal it was. compared: how many tensors were.
    """

    verdict: Verdict
    text: str = ""
    compared: int = 0


def judge(program: Program) -> Judged:
    """Run a program on its backend and on the loop, and compare all that comes out.

    In float32 a number that lies on the border of two branches may fall to either side: what is
    wrong there has to be so for other numbers too.
    """
    judged = _judge(program)
    if judged.verdict is Verdict.WRONG and program.single:
        for other in (1, 2):
            again = _judge(program._replace(numbers=program.numbers + other))
            if again.verdict is not Verdict.WRONG:
                return Judged(Verdict.SAME, "", judged.compared)
    return judged


def _judge(program: Program) -> Judged:
    found, loop = play(program), play(program, "loop")
    exact = play(program, "loop", exact=True) if program.single else loop
    compared, single = 0, program.single
    for number, acts in enumerate(zip(found.records, loop.records, exact.records, strict=False)):
        whole = not any(_ends(outcome, number) for outcome in (found, loop, exact))
        labels = [[label for label, _ in act] for act in acts]
        if whole and not labels[0] == labels[1] == labels[2]:
            extra, missing = (
                sorted(set(one) - set(other)) for one, other in (labels[:2], labels[1::-1])
            )
            text = f"act {number} gives {extra} and not {missing}, which the loop does"
            return Judged(Verdict.WRONG, text, compared)
        for (label, a), (_, b), (_, c) in zip(*acts, strict=False):
            if not bool(c.isfinite().all()) or not bool(b.isfinite().all()):
                return Judged(Verdict.NOT_FINITE, "", compared)
            text = _apart(a, b, c, single)
            if text:
                text = f"act {number} ({program.acts[number].name}), {label}: {text}"
                return Judged(Verdict.WRONG, text, compared)
            compared += 1
    return _raised(program, found, loop, compared)


def _ends(outcome: Outcome, number: int) -> bool:
    """Whether this act is the one that raised."""
    return outcome.raised is not None and number + 1 == len(outcome.records)


def _raised(program: Program, found: Outcome, loop: Outcome, compared: int) -> Judged:
    """Of two runs that gave the same as far as both went."""
    if found.raised is None and loop.raised is None:
        return Judged(Verdict.SAME, "", compared)
    number = min(len(found.records), len(loop.records)) - 1
    mine, theirs = (o.raised if _ends(o, number) else None for o in (found, loop))
    if mine is not None and theirs is not None:
        kinds = type(mine.error), type(theirs.error)
        if kinds[0] is kinds[1] or all(issubclass(kind, PLAIN) for kind in kinds):
            return Judged(Verdict.BOTH_RAISE, str(mine), compared)
    elif theirs is not None and any(text in str(theirs.error) for text in _owns(program)):
        return Judged(Verdict.BOTH_RAISE, str(theirs), compared)
    elif mine is not None:
        name = _allowed(mine, f"{program.acts[number]} {program.spec!r}")
        if name:
            return Judged(Verdict.REFUSED, name, compared)
    text = f"act {number}: {mine or 'runs'}; the loop {theirs or 'runs'}"
    return Judged(Verdict.WRONG, text, compared)


def _owns(program: Program) -> tuple[str, ...]:
    """What the loop alone may say."""
    in_segments = "('memory', " in repr(program.spec)
    return (FREED, OTHERWISE, NO_GRAPH, *([CHANGED] if in_segments else []))


def _allowed(raised: Raised, where: str) -> str:
    for name, (kind, pattern, place) in ALLOWED.items():
        if (
            isinstance(raised.error, kind)
            and re.search(pattern, str(raised.error))
            and place in where
        ):
            return name
    return ""


def _apart(found: Tensor, loop: Tensor, exact: Tensor, single: bool) -> str:
    """What is wrong with a tensor; "" where nothing is."""
    if (found.shape, found.dtype) != (loop.shape, loop.dtype):
        return f"{list(found.shape)} {found.dtype}, not {list(loop.shape)} {loop.dtype}"
    if not found.numel():
        return ""
    value, right = found.to(torch.float64), exact.to(torch.float64)
    if not bool(right.isfinite().all()):
        return "the loop's own numbers are not finite"
    scale = max(FLOOR, float(right.abs().max()))
    tolerance = TOLERANCE[torch.float32 if single else torch.float64]
    limit = tolerance.run * scale
    if single:
        limit += tolerance.run_errors * float((loop.to(torch.float64) - right).abs().max())
    return str(difference(value, right, limit) or "")
