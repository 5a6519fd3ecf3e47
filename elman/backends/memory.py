"""Memory for the big tensors of a run, kept from one call to the next.

A new piece of memory of this size comes from the system a page at a time, each cleared when it is
first touched: that takes ten times as long as writing to it. So what a run has let go of is kept
for the next one, as torch's allocator for GPUs does it.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from math import prod

import torch
from torch import Tensor

from elman.backends.locks import Deferred, Rank, held_at_fork

#: Smaller tensors are torch's own affair: the C library keeps their memory as well.
LEAST = 1 << 20
#: Bytes that are kept at most, and never more than were in use at once within the last two windows
#: of so many pieces: what a step of training takes serves the next one.
KEPT, WINDOW = 512 << 20, 1000


def empty(like: Tensor, *shape: int) -> Tensor:
    """As ``like.new_empty(shape)``: a tensor whose contents are whatever they are."""
    count = prod(shape)
    bytes = count * like.element_size()
    if bytes < LEAST or not like.is_cpu:
        return like.new_empty(*shape)
    return torch.frombuffer(_lease(bytes), dtype=like.dtype, count=count).view(shape)


def gather(rows: Tensor, places: Tensor) -> Tensor:
    """rows[places]: [n, S] -> [len(places), S]."""
    return torch.index_select(rows, 0, places, out=empty(rows, len(places), rows.shape[1]))


def release() -> None:
    """Return all unused memory to the system."""
    _kept.clear()


def held() -> int:
    """Bytes of unused memory."""
    return _kept.bytes


# ------------------------------------------------------------------ what is kept


class _Kept:
    """Unused pieces of memory, the oldest first."""

    def __init__(self) -> None:
        self.bytes = 0
        self.lock = Deferred(self._ended)
        self._pieces: OrderedDict[int, Tensor] = OrderedDict()  # by their addresses
        self._sizes: dict[int, list[int]] = {}  # the addresses of the pieces of a size
        self._used = self._leases = 0
        self._most = [0, 0]  # bytes in use at once, in the last window and in this one

    def lease(self, bytes: int) -> Tensor:
        """A piece for so many bytes."""
        with self.lock:
            piece = self._fitting(bytes)
            self._used += len(piece)
            self._leases += 1
            if self._leases % WINDOW == 0:
                self._most = [self._most[1], 0]
            self._most[1] = max(self._most[1], self._used)
            self._trim()
            return piece

    def _fitting(self, bytes: int) -> Tensor:
        """The smallest that is large enough, but not twice as large as need be; or a new one."""
        size = least = rounded(bytes)
        while size < 2 * least:
            if size in self._sizes:
                return self._remove(self._sizes[size][-1])
            size = rounded(size + 1)
        return _new(least)

    def _ended(self, piece: Tensor) -> None:
        """A lease has ended."""
        size = len(piece)
        self._used -= size
        self._pieces[piece.data_ptr()] = piece
        self._sizes.setdefault(size, []).append(piece.data_ptr())
        self.bytes += size
        self._trim()

    def clear(self) -> None:
        with self.lock:
            while self._pieces:
                self._remove(next(iter(self._pieces)))

    def _trim(self) -> None:
        while self.bytes > min(KEPT, max(self._most)):
            self._remove(next(iter(self._pieces)))

    def _remove(self, place: int) -> Tensor:
        piece = self._pieces.pop(place)
        size = len(piece)
        self.bytes -= size
        places = self._sizes[size]
        places.remove(place)
        if not places:
            del self._sizes[size]
        return piece


def _new(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, device="cpu")


_kept = _Kept()
held_at_fork(Rank.MEMORY, _kept.lock.lock)


def rounded(size: int) -> int:
    """The size of the piece for so many bytes: at most an eighth more, so that it serves again for
    a similar size. There are eight sizes from a power of two to the next."""
    grain = 1 << (size.bit_length() - 4)
    return -(-size // grain) * grain


# ------------------------------------------------------------------ leases


def _lease(bytes: int) -> ctypes.Array[ctypes.c_char]:
    """A piece of memory on loan: it comes back when the tensor made of it is gone."""
    owner = _kept.lease(bytes)
    lease = _type(len(owner)).from_address(owner.data_ptr())
    lease.owner = owner  # type: ignore[attr-defined]
    return lease


_types: dict[int, type[ctypes.Array[ctypes.c_char]]] = {}


def _type(size: int) -> type[ctypes.Array[ctypes.c_char]]:
    if size not in _types:
        _types[size] = type(f"Lease{size}", (ctypes.c_char * size,), {"__del__": _back})
    return _types[size]


def _back(lease: ctypes.Array[ctypes.c_char]) -> None:
    """Keep the memory of a lease that has ended."""
    if _kept is not None:  # the interpreter is closing
        _kept.lock.ask(lease.owner)  # type: ignore[attr-defined]
