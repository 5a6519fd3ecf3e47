"""What models check of lengths and targets before they compute with them."""

import torch
from torch import Tensor

from elman.errors import ShapeError
from elman.layers.layer import checked_lengths


def inside(lengths: Tensor | list[int] | None, like: Tensor) -> Tensor:
    """[T, B] bool for a tensor [T, B, ...]: which steps are inside their sequence.

    Raises ShapeError for lengths that are not 0 ... T.
    """
    T, B = like.shape[:2]
    if lengths is None:
        return torch.ones(T, B, dtype=torch.bool, device=like.device)
    lengths = checked_lengths(lengths, T, B, like.device)
    return torch.arange(T, device=like.device)[:, None] < lengths


def checked_ids(
    name: str, ids: Tensor, count: int, shape: torch.Size, valid: Tensor | None = None
) -> Tensor:
    """ids of this shape as int64, each 0 ... count - 1; 0 where not valid.

    Raises ShapeError. On an accelerator the kernel that reads the ids checks their range.
    """
    if ids.shape != shape or ids.is_floating_point() or ids.dtype is torch.bool:
        raise ShapeError(
            f"{name} must be whole numbers {list(shape)}, got {ids.dtype} {list(ids.shape)}"
        )
    ids = ids.long() if valid is None else torch.where(valid, ids, 0).long()
    if ids.device.type == "cpu" and ids.numel():
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= count:
            raise ShapeError(f"{name} must lie in 0 ... {count - 1}, got {low} ... {high}")
    return ids


def checked_numbers(name: str, numbers: Tensor, like: Tensor) -> Tensor:
    """Numbers of the shape and dtype of these predictions; ShapeError for another shape."""
    if numbers.shape != like.shape:
        raise ShapeError(f"{name} must be {list(like.shape)}, got {list(numbers.shape)}")
    return numbers.to(like.dtype)
