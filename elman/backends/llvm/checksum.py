"""Whether memory has changed: a sum over all its bits, at the speed of memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from torch import Tensor

from elman.backends.llvm import jit
from elman.backends.llvm.code import Code

_LANES, _STREAMS = 16, 4
_TYPE = f"<{_LANES} x i32>"
_TURN = _LANES * _STREAMS * 4  # bytes a turn of the loop


def checksum(tensor: Tensor) -> tuple[Any, ...]:
    """How the tensor lies and what is in it: two that differ in one number never agree."""
    lies = tensor.shape, tensor.stride(), tensor.dtype
    if not tensor.is_contiguous():
        tensor = tensor.mT.contiguous()  # no copy of a matrix that is written as x @ W
    size = tensor.numel() * tensor.element_size()
    sums = (ctypes.c_uint32 * (_LANES * _STREAMS))()
    whole = size // _TURN * _TURN
    _function()(tensor.data_ptr(), whole, ctypes.addressof(sums))
    rest = ctypes.string_at(tensor.data_ptr() + whole, size - whole)
    return *lies, bytes(sums), rest


@lru_cache
def _function() -> Callable[..., None]:
    """sum = (sum xor word) * odd, in 64 streams: a step that no two words do alike."""
    code = Code()
    odd = "splat (i32 -1640531535)"
    with code.function("void @checksum(ptr %data, i64 %size, ptr %sums)"):
        first = [(_TYPE, "zeroinitializer")] * _STREAMS
        with code.loop(0, "%size", _TURN, first) as loop:
            for i, value in enumerate(loop.values):
                at = code.add(loop.index, i * _LANES * 4)
                word = code.load(_TYPE, code.gep("%data", at, "i8"))
                mixed = code.op(f"xor {_TYPE} {value}, {word}")
                loop.next[i] = code.op(f"mul {_TYPE} {mixed}, {odd}")
        for i, value in enumerate(loop.values):
            code.store(_TYPE, value, code.gep("%sums", i * _LANES * 4, "i8"))
    library = jit.load(code.module(), "checksum")
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    return prototype(library.address("checksum"))
