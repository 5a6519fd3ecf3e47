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
        like = state[0]
        self.shape = (like.shape[0], plan.step.x.size)
        tape = Tape(
            walk_over(1, like.shape[0], Sequence(), reverse=False),
            [like.new_empty(self.shape)], [like.new_empty(self.shape)], weights, None,
            state, (), [_own(part) for part in state], (), [False] * len(state),
        )  # fmt: skip
        self._held = Arguments(loop, plan, tape, None, team.max_threads())
        self._threads = self._held.share.threads
        self._entry, self._call = loop.entry, _function(loop.entry)
        # Where x and the state stand; one that no code reads goes to the spare place at the end.
        spare, parts = len(loop.places), [s.attrs["name"] for s in plan.states]
        self._x = loop.places.get("in0", spare)
        self._given, *self._olds = [loop.places.get(f"given {part}", spare) for part in parts]
        self._new, *self._news = [loop.places[f"states {part}"] for part in parts]
        self.state = state

    @property
    def state(self) -> tuple[Tensor, ...]:
        """A copy of the state now; setting it goes on from there."""
        return tuple(part.clone() for part in (self._output, *self._room[self._turn]))

    @state.setter
    def state(self, state: tuple[Tensor, ...]) -> None:
        self._output, *one = [_own(part) for part in state]
        self._last = self._output.data_ptr()
        other = [_own(part) for part in one]
        self._room, self._turn = (one, other), 0
        self._turns = self._turn_from(one, other), self._turn_from(other, one)

    def _turn_from(self, old: list[Tensor], new: list[Tensor]) -> _Turn:
        """The arguments of a step from one room to the other, but for x and the output."""
        array = (ctypes.c_int64 * (len(self._held.array) + 1))(*self._held.array, 0)
        for place, part in zip((*self._olds, *self._news), (*old, *new), strict=True):
            array[place] = part.data_ptr()
        return array, ctypes.c_void_p(ctypes.addressof(array))

    def step(self, x: Tensor) -> Tensor:
        """x: [B, I], contiguous, of the right dtype -> the first part of the new state."""
        output = torch.empty_like(self._output)  # the caller's from now on
        array, arguments = self._turns[self._turn]
        array[self._x] = x.data_ptr()
        array[self._given] = self._last
        array[self._new] = self._last = output.data_ptr()
        if self._threads == 1:
            self._call(arguments, _FIRST, _ALONE)
        else:
            ctypes.memset(self._held.frame.counter, 0, 8)
            team.run(self._entry, ctypes.addressof(array), self._threads)
        self._output, self._turn = output, 1 - self._turn
        return output


#: The arguments of a step, and where they are.
_Turn = tuple["ctypes.Array[ctypes.c_int64]", ctypes.c_void_p]
#: The first thread of one, made once: ctypes converts whole numbers at every call.
_FIRST, _ALONE = ctypes.c_int64(0), ctypes.c_int64(1)


def _own(part: Tensor) -> Tensor:
    return part.clone(memory_format=torch.contiguous_format)


def _function(address: int) -> Callable[..., None]:
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    return prototype(address)
