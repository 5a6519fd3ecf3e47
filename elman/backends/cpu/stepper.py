"""One step at a time through a kernel, with as little around it as can be."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from elman.backends.base import Again, ForwardBuffers
from elman.backends.cpu.jit.library import load
from elman.backends.cpu.program import Arguments, Loop
from elman.backends.cpu.threads import openmp
from elman.backends.ragged import ragged_layout
from elman.backends.sequence import SequenceInfo
from elman.cells.cell import State
from elman.compiler.plan import Plan
from elman.errors import ShapeError

# The new state stays in memory of the stepper's own; what the caller gets is a copy, made here
# because a call from Python costs more than the copy does.
_STEP = """
define void @step(ptr %given) {
  %entry = load ptr, ptr %given
  %arguments = getelementptr i64, ptr %given, i64 4
  call void %entry(ptr %arguments, i64 0, i64 1)
  call void @hand_out(ptr %given)
  ret void
}

define void @hand_out(ptr %given) {
  %to_at = getelementptr i64, ptr %given, i64 1
  %from_at = getelementptr i64, ptr %given, i64 2
  %bytes_at = getelementptr i64, ptr %given, i64 3
  %to = load ptr, ptr %to_at
  %from = load ptr, ptr %from_at
  %bytes = load i64, ptr %bytes_at
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %bytes, i1 false)
  ret void
}

declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""
#: What stands before the kernel's arguments: its entry, then to, from and bytes of the copy.
_HEAD, _TO = 4, 1


class Stepper:
    """Runs the step of a streamed plan again and again; holds the state between.

    The weights are those of the moment when it was made: they are packed once. Threads may share
    it: their steps are taken in turn. A copy has a state of its own.
    """

    def __init__(
        self, plan: Plan, loop: Loop, weights: list[Tensor], state: State, again: Again
    ) -> None:
        """again: makes one that goes on from a state, where this plan is not there."""
        self._made_of, self._again = (plan, loop, weights), again
        self._lock = Lock()
        like, shape = state[0], (state[0].shape[0], plan.step.x.size)
        buffers = ForwardBuffers(
            ragged_layout(1, like.shape[0], SequenceInfo(), reverse=False),
            [like.new_empty(shape)], [like.new_empty(shape)], weights, None,
            state, (), [_own(part) for part in state], (), [False] * len(state),
        )  # fmt: skip
        self._held = Arguments(loop, plan, buffers, None, openmp.max_threads())
        self._threads = self._held.partition.threads
        self._alone = self._threads == 1
        # Where x and the state stand; one that no code reads goes to the spare place at the end.
        spare, parts = len(loop.places), [s.attrs["name"] for s in plan.states]
        self._x = _HEAD + loop.places.get("in0", spare)
        self._olds = [_HEAD + loop.places.get(f"initial {part}", spare) for part in parts]
        self._news = [_HEAD + loop.places[f"states {part}"] for part in parts]
        self._room = tuple(_own(part) for part in state), tuple(_own(part) for part in state)
        self._turns = self._turn(*self._room), self._turn(*reversed(self._room))
        self._like, self._now = self._room[0][0], False
        self._step, self._hand_out = _functions()

    @property
    def state(self) -> State:
        """A copy of the state now; setting it goes on from there."""
        with self._lock:
            return tuple(part.clone() for part in self._room[self._now])

    @state.setter
    def state(self, state: State) -> None:
        with self._lock, torch.inference_mode():
            for own, part in zip(self._room[self._now], state, strict=True):
                own.copy_(part)

    def _turn(self, old: State, new: State) -> _Turn:
        """The arguments of a step from one room to the other, but for x and where the output
        goes."""
        loop = self._made_of[1]
        head = loop.entry, 0, new[0].data_ptr(), new[0].nbytes
        array = (ctypes.c_int64 * (_HEAD + len(loop.places) + 1))(*head, *self._held.array, 0)
        for place, part in zip((*self._olds, *self._news), (*old, *new), strict=True):
            array[place] = part.data_ptr()
        return array, ctypes.c_void_p(ctypes.addressof(array))

    def step(self, x: Tensor) -> Tensor:
        """x: [B, I], contiguous, of the right dtype -> a copy of the first part of the new
        state."""
        with self._lock:
            array, given = self._turns[self._now]
            output = torch.empty_like(self._like)
            try:
                array[self._x] = start = x.data_ptr()
                array[_TO] = end = output.data_ptr()
            except RuntimeError:
                start = end = 0
            if not start or not end:
                _refuse_without_memory(x, output)
            if self._alone:
                self._step(given)
            else:
                self._in_team(array, given)
            self._now = not self._now
        return output

    def _in_team(self, array: ctypes.Array[ctypes.c_int64], given: ctypes.c_void_p) -> None:
        ctypes.memset(self._held.frame.counter, 0, 8)
        arguments = ctypes.addressof(array) + _HEAD * ctypes.sizeof(ctypes.c_int64)
        openmp.run(self._made_of[1].entry, arguments, self._threads)
        self._hand_out(given)

    def __deepcopy__(self, memo: object) -> Stepper:
        return Stepper(*self._made_of, self.state, self._again)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self._again, self.state)


def _made(again: Again, state: State) -> Any:
    return again(state=state)


def _refuse_without_memory(*tensors: Tensor) -> None:
    if any(t.numel() for t in tensors):
        raise ShapeError(
            "stream: a step reads and writes ordinary tensors, and x_t has no memory (it is fake, "
            "or inside a transform of torch.func); call the layer's step instead"
        )


#: The arguments of a step, and where they are.
_Turn = tuple["ctypes.Array[ctypes.c_int64]", ctypes.c_void_p]
_Call = Callable[[ctypes.c_void_p], None]


@lru_cache
def _functions() -> tuple[_Call, _Call]:
    library, prototype = load(_STEP, "step"), ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    return library.function("step", prototype), library.function("hand_out", prototype)


def _own(part: Tensor) -> Tensor:
    return part.clone(memory_format=torch.contiguous_format)
