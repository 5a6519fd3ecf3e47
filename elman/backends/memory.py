"""Memory for the big tensors of a run, kept from one call to the next.

A new piece of memory of this size comes from the system a page at a time, each cleared when it is
first touched: that takes ten times as long as writing to it. So what a run has let go of is kept
for the next one, as torch's allocator for GPUs does it.
"""

from __future__ import annotations

import ctypes
import os
from math import prod
from threading import RLock

import torch
from torch import Tensor

#: Smaller tensors are torch's own affair: the C library keeps their memory as well.
LEAST = 1 << 20
#: Sizes are rounded up to a multiple of this, so that a piece serves again for a similar size.
GRAIN = 1 << 20
#: Bytes that are kept while nobody uses them.
KEPT = 2 << 30

_free: dict[int, list[Tensor]] = {}
_order: list[int] = []
_lock = RLock()  # a lease may end, by garbage collection, while one begins


def empty(like: Tensor, *shape: int) -> Tensor:
    """As ``like.new_empty(shape)``: a tensor whose contents are whatever they are."""
    count = prod(shape)
    bytes = count * like.element_size()
    if like.device.type != "cpu" or bytes < LEAST:
        return like.new_empty(shape)
    lease = _Lease.of(-(-bytes // GRAIN) * GRAIN)
    return torch.frombuffer(lease, dtype=like.dtype, count=count).view(shape)


def gather(rows: Tensor, places: Tensor) -> Tensor:
    """rows[places]: [n, S] -> [len(places), S]."""
    return torch.index_select(rows, 0, places, out=empty(rows, len(places), rows.shape[1]))


def release() -> None:
    """Give back to the system all memory that nobody uses now."""
    with _lock:
        _free.clear()
        _order.clear()


# A child must not inherit the lock in the hands of a thread that it does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


class _Lease:
    """A piece of memory on loan: it comes back when the tensor made of it is gone."""

    @staticmethod
    def of(size: int) -> ctypes.Array[ctypes.c_char]:
        with _lock:
            kept = _free.get(size)
            owner = kept.pop() if kept else None
            if owner is not None:
                _order.remove(size)
        if owner is None:
            owner = torch.empty(size, dtype=torch.uint8)
        lease = _type(size).from_address(owner.data_ptr())
        lease.owner = owner  # type: ignore[attr-defined]
        return lease


_types: dict[int, type[ctypes.Array[ctypes.c_char]]] = {}


def _type(size: int) -> type[ctypes.Array[ctypes.c_char]]:
    if size not in _types:
        _types[size] = type(f"Lease{size}", (ctypes.c_char * size,), {"__del__": _back})
    return _types[size]


def _back(lease: ctypes.Array[ctypes.c_char]) -> None:
    """Keep the memory of a lease that has ended, unless there is too much of it."""
    owner = lease.owner  # type: ignore[attr-defined]
    if _lock is None:  # the interpreter is closing
        return
    with _lock:
        _free.setdefault(len(owner), []).append(owner)
        _order.append(len(owner))
        while sum(_order) > KEPT:
            _free[_order.pop(0)].pop(0)
