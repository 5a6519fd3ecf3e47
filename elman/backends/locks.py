"""Locks that neither a finaliser nor a fork can make wait for ever."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Deferred(Generic[T]):
    """A lock, and what finalisers want done under it.

    A finaliser may run at any moment, in a thread that holds any lock, so it must wait for none:
    what it asks for is done at once where the lock is free, else by its holder.
    """

    def __init__(self, act: Callable[[T], Any]) -> None:
        self.lock, self._act = Lock(), act
        self._asked: deque[T] = deque()

    def ask(self, item: T) -> None:
        """Have ``act(item)`` done, by this thread or another, now or when the lock is next held."""
        self._asked.append(item)
        if self.lock.acquire(blocking=False):
            try:
                self._do()
            finally:
                self.lock.release()

    def __enter__(self) -> None:
        self.lock.acquire()
        self._do()

    def __exit__(self, *_: object) -> None:
        try:
            self._do()
        finally:
            self.lock.release()

    def _do(self) -> None:
        while self._asked:
            self._act(self._asked.popleft())


# ------------------------------------------------------------------ forks


class Rank(IntEnum):
    """In which order locks are taken: who holds one may wait for those after it."""

    MAKING, PACKING, MEMORY, LLVM = range(4)


class Acquirable(Protocol):
    """A lock."""

    def acquire(self) -> Any: ...

    def release(self) -> None: ...


_held: dict[Rank, Acquirable] = {}


def held_at_fork(rank: Rank, lock: Acquirable) -> None:
    """Take this lock before each fork and release it after, in the parent and in the child: a child
    must not inherit it in the hands of a thread that it does not have."""
    _held[rank] = lock


def _take() -> None:
    for rank in sorted(_held):
        _held[rank].acquire()


def _release() -> None:
    for rank in sorted(_held, reverse=True):
        _held[rank].release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take, after_in_parent=_release, after_in_child=_release)
