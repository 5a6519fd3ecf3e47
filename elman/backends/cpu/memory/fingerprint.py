"""Whether memory has changed: 64 bits that depend on all of it, at the speed of memory.

Built as xxHash64 (Collet, "xxHash fast digest algorithm"): accumulators that take the words in
turn, each word exclusive-ored in and multiplied, are merged in order by its `mergeRound` and
finished by its avalanche, with its primes. The round differs, as it wants a product of 64 bits that
no vector unit before AVX-512 has: here the two halves of an accumulator are multiplied by an odd
number each and the products added (multilinear hashing: Lemire and Kaser 2014, "Strongly universal
string hashing is fast"), 32 bits times 32. So there are 32 accumulators instead of 4, and words
beyond the last whole round are filled up with zeros: the length is hashed as well. It is not
cryptographic: who wants to can make two tensors that agree.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from torch import Tensor

from elman.backends.cpu.codegen.code import Code
from elman.backends.cpu.jit.library import load
from elman.backends.cpu.jit.once import Once
from elman.backends.operands import address

_LANES, _VECTORS = 8, 4
_TYPE = f"<{_LANES} x i64>"
_TURN = _LANES * _VECTORS * 8  # bytes a turn of the loop
_AHEAD = 2048  # bytes: what the loop will read by the time that memory has answered
# xxHash's primes of 32 and of 64 bits.
_LOW, _HIGH = 0x9E3779B1, 0x85EBCA77
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def fingerprint(tensor: Tensor) -> tuple[Any, ...]:
    """How the tensor lies, and 64 bits that tell its bits from others: 0.0 from -0.0, NaN from
    NaN, and every number from where it stands."""
    lies = tensor.shape, tensor.stride(), tensor.dtype
    if not tensor.is_contiguous():  # no copy of a matrix that is written as x @ W
        tensor = (tensor.mT if tensor.dim() > 1 else tensor).contiguous()
    size = tensor.numel() * tensor.element_size()
    return *lies, _function()(address("weight", tensor, tensor.dtype, tensor.numel()), size)


@Once
def _function() -> Callable[[int, int], int]:
    code = Code()
    with code.function("i64 @fingerprint(ptr %data, i64 %size)", result="i64"):
        whole = code.op(f"and i64 %size, {-_TURN}")
        with code.loop(0, whole, _TURN, [(_TYPE, _seed(i)) for i in range(_VECTORS)]) as loop:
            here = code.gep("%data", loop.index, "i8")
            _prefetch(code, here)
            loop.next = _turn(code, here, loop.values)
        last = _turn(code, _rest(code, whole), loop.values)
        code.do(f"ret i64 {_merged(code, last)}")
    library = load(code.module(), "fingerprint")
    prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int64)
    return library.function("fingerprint", prototype)


def _seed(vector: int) -> str:
    """What a vector of accumulators begins with: each with another number."""
    first = vector * _LANES + 1
    numbers = ", ".join(f"i64 {_signed(i * _P5)}" for i in range(first, first + _LANES))
    return f"<{numbers}>"


def _prefetch(code: Code, here: str) -> None:
    for line in range(0, _TURN, 64):
        at = code.gep(here, _AHEAD + line, "i8")
        options = (("i32", "0"), ("i32", "3"), ("i32", "1"))  # to be read, kept, data
        code.call("void", "llvm.prefetch.p0", ("ptr", at), *options)


def _turn(code: Code, here: str, accumulators: list[str]) -> list[str]:
    """acc = low(acc xor word) * LOW + high(acc xor word) * HIGH"""
    found = []
    for i, accumulator in enumerate(accumulators):
        word = code.load(_TYPE, code.gep(here, i * _LANES * 8, "i8"), 1)
        mixed = code.op(f"xor {_TYPE} {accumulator}, {word}")
        low = code.op(f"and {_TYPE} {mixed}, splat (i64 {0xFFFFFFFF})")
        high = code.op(f"lshr {_TYPE} {mixed}, splat (i64 32)")
        low = code.op(f"mul {_TYPE} {low}, splat (i64 {_LOW})")
        high = code.op(f"mul {_TYPE} {high}, splat (i64 {_HIGH})")
        found.append(code.op(f"add {_TYPE} {low}, {high}"))
    return found


def _rest(code: Code, whole: str) -> str:
    """What is left after the whole turns, and zeros: the place of one turn more."""
    room = code.op(f"alloca [{_TURN} x i8], align 64")
    for at in range(0, _TURN, _LANES * 8):
        code.store(_TYPE, "zeroinitializer", code.gep(room, at, "i8"), 64)
    count, never = code.sub("%size", whole), ("i1", "false")
    source = code.gep("%data", whole, "i8")
    code.call(
        "void", "llvm.memcpy.p0.p0.i64", ("ptr", room), ("ptr", source), ("i64", count), never
    )
    return room


def _merged(code: Code, accumulators: list[str]) -> str:
    """All accumulators and the length in one number."""
    found = code.op(f"add i64 %size, {_signed(_P5)}")
    for accumulator in accumulators:
        for lane in range(_LANES):
            value = code.op(f"extractelement {_TYPE} {accumulator}, i32 {lane}")
            value = _times(code, _rotated(code, _times(code, value, _P2), 31), _P1)
            found = _times(code, code.op(f"xor i64 {found}, {value}"), _P1)
            found = code.op(f"add i64 {found}, {_signed(_P4)}")
    for shift, prime in ((33, _P2), (29, _P3)):
        found = _times(code, _folded(code, found, shift), prime)
    return _folded(code, found, 32)


def _times(code: Code, value: str, prime: int) -> str:
    return code.op(f"mul i64 {value}, {_signed(prime)}")


def _rotated(code: Code, value: str, by: int) -> str:
    return code.call("i64", "llvm.fshl.i64", ("i64", value), ("i64", value), ("i64", str(by)))


def _folded(code: Code, value: str, by: int) -> str:
    return code.op(f"xor i64 {value}, {code.op(f'lshr i64 {value}, {by}')}")


def _signed(number: int) -> int:
    """The same 64 bits as LLVM prints them."""
    number &= 2**64 - 1
    return number - 2**64 if number >> 63 else number
