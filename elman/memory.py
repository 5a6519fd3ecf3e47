"""Memory that elman keeps while nothing uses it, so that the next call is faster.

Two kinds are kept. Pieces of a megabyte and more that a call has let go of serve the next calls, at
most 512 MiB of them, and not what is no longer of use because sizes have changed. And each layer's
weights are kept in the order in which its kernels read them, as long as the layer is there and they
do not change.
"""

from __future__ import annotations

from elman.backends import memory
from elman.backends.cpu.memory import packing

__all__ = ["held", "release"]


def held() -> int:
    """Bytes that are kept now and that nothing uses, as `release` would give them back.

    Results, gradients and what an outstanding backward pass reads are not among them: they go, as
    all tensors do, with the last reference to them.
    """
    return memory.held() + packing.kept.bytes


def release() -> None:
    """Give all of it back to the system. The next calls make anew what they need.

    Call it from any thread, and at any time: what is in use stays in use.
    """
    memory.release()
    packing.kept.clear()
