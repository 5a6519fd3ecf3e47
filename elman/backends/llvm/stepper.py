"""One step at a time through a kernel, with as little around it as can be."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from elman.backends.engine import Tape
from elman.backends.llvm import team
from elman.backends.llvm.program import Arguments, Loop
from elman.backends.walk import walk_over
from elman.compiler.plan import Plan
from elman.sequence import Sequence


class Stepper:
    """Runs the step of a streamed plan again and again; holds the state between.

    The weights are those of the moment when it was made: they are packed once.
    """

    def __init__(
        self, plan: Plan, loop: Loop, weights: list[Tensor], state: tuple[Tensor, ...]
    ) -> None:
        self.state = state
        self._next = [torch.empty_like(s) for s in self._now]
        like = self._now[0]
        self.shape = (like.shape[0], plan.step.x.size)
        tape = Tape(
            walk_over(1, like.shape[0], Sequence(), reverse=False),
            [like.new_empty(self.shape)], [like.new_empty(self.shape)], weights, None,
            self._now, (), self._next, (), [False] * len(state),
        )  # fmt: skip
        self._held = Arguments(loop, plan, tape, None, team.max_threads())
        count = len(self._held.array)
        self._array = (ctypes.c_int64 * (count + 1))(*self._held.array, 0)
        self._address = ctypes.addressof(self._array)
        self._threads = self._held.share.threads
        self._entry, self._call = loop.entry, _function(loop.entry)
        self._find(plan, loop.kernel.arguments)

    def _find(self, plan: Plan, names: list[str]) -> None:
        """Where in the arguments x and the state stand; one that no code reads goes to the spare
        place at the end."""
        parts = [s.attrs["name"] for s in plan.states]
        spare = len(names)
        at = {name: index for index, name in enumerate(names)}
        self._x = at.get("in0", spare)
        self._given = [at.get(f"given {part}", spare) for part in parts]
        self._new = [at[f"states {part}"] for part in parts]

    @property
    def state(self) -> tuple[Tensor, ...]:
        """A copy of the state now; setting it goes on from there."""
        return tuple(s.clone() for s in self._now)

    @state.setter
    def state(self, state: tuple[Tensor, ...]) -> None:
        self._now = [s.clone(memory_format=torch.contiguous_format) for s in state]

    def step(self, x: Tensor) -> Tensor:
        """x: [B, I], contiguous, of the right dtype -> the first part of the new state."""
        array, now, new = self._array, self._now, self._next
        new[0] = output = torch.empty_like(now[0])  # the caller's from now on
        array[self._x] = x.data_ptr()
        for given, old, into, part in zip(self._given, now, self._new, new, strict=True):
            array[given] = old.data_ptr()
            array[into] = part.data_ptr()
        if self._threads == 1:
            self._call(self._address, 0, 1)
        else:
            ctypes.memset(self._held.counter, 0, 8)
            team.run(self._entry, self._address, self._threads)
        self._now, self._next = new, now
        return output


def _function(address: int) -> Callable[..., None]:
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    return prototype(address)
