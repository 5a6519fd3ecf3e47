"""Which tensors a kernel may read and write. Every pointer that a kernel gets comes from here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from elman.errors import ShapeError

#: What torch's dispatch keys say of a tensor whose numbers do not simply lie in memory.
ODD = {
    "FuncTorch": "a transform of torch.func is at work on {name}",
    "Functionalize": "{name} is a functional tensor, which has no memory of its own",
    "Python": "{name} is a {kind}, whose operations torch hands to its class",
    "Meta": "{name} is on meta, where there are no numbers",
    "Sparse": "{name} is sparse",
    "Mkldnn": "{name} is in the layout of mkldnn",
    "Quantized": "{name} is quantized",
    "Nested": "{name} is a nested tensor",
    "Negative": "{name} is negated when it is read",
    "Conjugate": "{name} is conjugated when it is read",
    "ZeroTensor": "{name} has no memory, only zeros",
}
#: Classes that torch's work is left to, and the layout of memory that has a pointer.
ORDINARY, STRIDED = frozenset((Tensor, nn.Parameter)), torch.strided
#: `__torch_function__` of classes that let torch do its work.
USUAL = (vars(Tensor)["__torch_function__"].__func__, nn.Parameter.__torch_function__)
#: What is known of tensors of one class and one set of dispatch keys: what is odd, if anything.
_known: dict[tuple[type, int], str | None] = {}


def dispatch_mode() -> str | None:
    """The name of the innermost mode that has to see every operation of torch (FakeTensorMode,
    FlopCounterMode); None: there is none."""
    if not torch._C._len_torch_dispatch_stack():
        return None
    mode = _get_current_dispatch_mode_stack()[-1]
    return type(mode).__name__.lstrip("_")


def oddity(name: str, tensor: Tensor) -> str | None:
    """Why a plan cannot read this tensor, in words; None: it can.

    Raises ShapeError where nobody can: where its memory has been given back."""
    what = _oddity(tensor)
    if what is None and is_freed(tensor):
        raise ShapeError(
            f"the memory of '{name}', {list(tensor.shape)} {tensor.dtype}, has been freed "
            "(its storage was resized to 0, as FSDP does between calls); gather it before the call"
        )
    return what and what.format(name=name, kind=type(tensor).__name__)


def is_freed(tensor: Tensor) -> bool:
    """Whether a plain tensor has lost the memory that its numbers were in."""
    try:
        return tensor.data_ptr() < HIGH and _is_null(tensor) and tensor.numel() > 0
    except RuntimeError:  # torch gives no pointer to what another tensor wraps
        return False


#: No offset is as large as this, and on most machines every address of memory is.
HIGH = 1 << 46


def _is_null(tensor: Tensor) -> bool:
    """Whether a tensor's storage begins at no address: its own is its offset there."""
    return tensor.data_ptr() == tensor.storage_offset() * tensor.element_size()


def all_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether there is nothing odd about any of them, and each has its memory."""
    if peek_interpreter_stack() is None and _lie_in_memory(tensors):
        return True
    return all(_oddity(tensor) is None and not is_freed(tensor) for tensor in tensors)


def _lie_in_memory(tensors: Sequence[Tensor]) -> bool:
    """`all_plain` of tensors on the CPU outside of transforms, at a third of its cost."""
    try:
        for t in tensors:
            if type(t) not in ORDINARY or not t.is_cpu or t.is_neg() or t.layout is not STRIDED:
                return False
            if t.data_ptr() < HIGH and _is_null(t) and t.numel():
                return False
    except RuntimeError:  # torch gives no pointer to what another tensor wraps
        return False
    return True


def _oddity(tensor: Tensor) -> str | None:
    key = type(tensor), torch._C._dispatch_keys(tensor).raw_repr()
    try:
        return _known[key]
    except KeyError:
        found = _known[key] = _described(tensor)
        return found


def _described(tensor: Tensor) -> str | None:
    keys = str(torch._C._dispatch_keys(tensor)).partition("(")[2].rstrip(")").split(", ")
    for start, what in ODD.items():
        if any(key.startswith(start) for key in keys):
            return what
    function = type(tensor).__torch_function__
    return None if getattr(function, "__func__", function) in USUAL else ODD["Python"]


def autocasts(tensor: Tensor) -> bool:
    """Whether autocast is on where this tensor is."""
    if not torch._C._is_any_autocast_enabled():
        return False
    kind = tensor.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def resolved(tensor: Tensor) -> Tensor:
    """The tensor with a lazy negation or conjugation resolved."""
    return tensor.resolve_conj().resolve_neg() if is_lazy(tensor) else tensor


def is_lazy(tensor: Tensor) -> bool:
    """Whether a negation or a conjugation is lazy: done when the tensor is read."""
    return _oddity(tensor) in (ODD["Negative"], ODD["Conjugate"])


def address(name: str, tensor: Tensor, dtype: torch.dtype, count: int) -> int:
    """Where the ``count`` numbers of a tensor lie that a kernel reads or writes.

    The last check before a kernel runs. Raises ShapeError where they are not there, one after the
    other in this machine's memory, or are of another type or number than the kernel was made for.
    """
    if (
        tensor.dtype is not dtype
        or tensor.numel() != count
        or not tensor.is_cpu
        or not tensor.is_contiguous()
        or tensor.is_neg()
    ):
        raise _unfit(name, tensor, dtype, count)
    place = tensor.data_ptr()
    if place < HIGH and count and _is_null(tensor):
        raise _unfit(name, tensor, dtype, count)
    return place


def _unfit(name: str, tensor: Tensor, dtype: torch.dtype, count: int) -> ShapeError:
    odd = oddity(name, tensor) or ("" if tensor.is_contiguous() else "not one after the other")
    why = f" ({odd})" if odd else ""
    return ShapeError(
        f"a kernel wants '{name}' to be {count} numbers of {dtype} in memory, on cpu, got "
        f"{list(tensor.shape)} {tensor.dtype} on {tensor.device}{why}; look at the parameters and "
        "buffers of the cell, and at what its initial_state returns"
    )
