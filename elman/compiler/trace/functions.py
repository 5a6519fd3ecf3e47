"""The functions of torch as the author of a cell wrote them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from elman.compiler.ir.build import RefusedError

#: The names of the function that `_rms_norm` stands for.
RMS_NORM = (F.rms_norm, torch.rms_norm)


#: What a step may not ask of a tensor, and why.
OUTSIDE = {
    **dict.fromkeys(
        (
            *("torch.Tensor.tolist", "torch.Tensor.numpy", "torch.Tensor.__array__"),
            *("torch.Tensor.__dlpack__", "torch.Tensor.storage", "torch.Tensor.untyped_storage"),
            *("torch.Tensor.data_ptr",),
        ),
        "it takes numbers out of torch",
    ),
    **dict.fromkeys(
        (
            *("torch.Tensor.requires_grad.__get__", "torch.Tensor.grad_fn.__get__"),
            *("torch.Tensor.is_leaf.__get__", "torch.Tensor.grad.__get__"),
            *("torch.Tensor._version.__get__",),
        ),
        "it is another one at each call",
    ),
}


#: What tells how many rows there are: by axes, and in all.
OF_ONE_AXIS = frozenset(("torch.Tensor.shape.__get__", "torch.Tensor.size"))
SIZES = OF_ONE_AXIS | {"torch.Tensor.numel", "torch.numel"}


class Rows(int):
    """The number of rows, or what is computed from it: an int that tells when it is compared with
    another number, as the branch that is taken then may be another one for more rows."""

    told: Callable[[], None]

    @staticmethod
    def of(value: int, told: Callable[[], None]) -> Rows:
        """told: is called when it is compared."""
        rows = Rows(value)
        rows.told = told
        return rows


def _compared(name: str) -> Callable[[Rows, Any], Any]:
    def method(self: Rows, other: Any) -> Any:
        if not isinstance(other, Rows):
            self.told()
        return getattr(int, name)(self, other)

    return method


def _computed(name: str) -> Callable[[Rows, Any], Any]:
    def method(self: Rows, other: Any) -> Any:
        value = getattr(int, name)(self, other)
        return Rows.of(value, self.told) if isinstance(value, int) else value

    return method


def _truth(self: Rows) -> bool:
    self.told()
    return int(self) != 0


for _name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
    setattr(Rows, _name, _compared(_name))
for _name in ("add", "sub", "mul", "floordiv", "mod"):
    for _side in ("__", "__r"):
        setattr(Rows, f"{_side}{_name}__", _computed(f"{_side}{_name}__"))
setattr(Rows, "__hash__", int.__hash__)  # noqa: B010
setattr(Rows, "__bool__", _truth)  # noqa: B010


class Functions(TorchFunctionMode):
    """Knows which function of torch is running, in the user's words.

    rows: how many there are. branches: is called where the step compares this number with another.
    """

    def __init__(self, rows: int, branches: Callable[[], None]) -> None:
        super().__init__()
        self.running: str | None = None
        self.recording = False  # what is asked of a tensor then is not the step's question
        self._rows, self._branches = rows, branches

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        outermost = self.running is None and not self.recording
        if outermost:
            self.running = resolve_name(func) or getattr(func, "__name__", str(func))
            if self.running in OUTSIDE:
                raise RefusedError(OUTSIDE[self.running])
            if self.running == "torch.Tensor.__len__" and len(args[0]) == self._rows:
                self._branches()  # an int of Python's own, which nobody can follow
        result = (_rms_norm if func in RMS_NORM else func)(*args, **(kwargs or {}))
        if outermost:
            if self.running in SIZES and self._rows in args[0].size():
                result = self._watched(result)
            self.running = None  # after an error it stays, for the message
        return result

    def _watched(self, size: Any) -> Any:
        """The size of an axis, of several or of all together, with the number of rows as `Rows`."""
        if isinstance(size, torch.Size):
            return torch.Size([self._watched(one) for one in size])
        if size == self._rows or self.running not in OF_ONE_AXIS:
            return Rows.of(size, self._branches)
        return size


def _rms_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """torch's own writes in place."""
    axes = tuple(range(-len(shape), 0))
    if eps is None:  # that of the type that torch computes in
        eps = torch.finfo(torch.float64 if x.dtype == torch.float64 else torch.float32).eps
    y = x * (x * x).mean(axes, keepdim=True).add(eps).rsqrt()
    return y if weight is None else y * weight
