"""The functions of torch as the author of a cell wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from elman.compiler.build import RefusedError

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


class Functions(TorchFunctionMode):
    """Knows which function of torch is running, in the user's words."""

    def __init__(self) -> None:
        super().__init__()
        self.running: str | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        outermost = self.running is None
        if outermost:
            self.running = resolve_name(func) or getattr(func, "__name__", str(func))
            if self.running in OUTSIDE:
                raise RefusedError(OUTSIDE[self.running])
        result = (_rms_norm if func in RMS_NORM else func)(*args, **(kwargs or {}))
        if outermost:  # after an error it stays, for the message
            self.running = None
        return result


def _rms_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """torch's own writes in place."""
    axes = tuple(range(-len(shape), 0))
    if eps is None:  # that of the type that torch computes in
        eps = torch.finfo(torch.float64 if x.dtype == torch.float64 else torch.float32).eps
    y = x * (x * x).mean(axes, keepdim=True).add(eps).rsqrt()
    return y if weight is None else y * weight
