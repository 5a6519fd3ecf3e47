"""Tensors on disk: safetensors, which can hold no code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from elman.data.core.files import RESTORE, written_aside
from elman.data.core.reading import reading
from elman.errors import RunError
from elman.train.budget import Budget

M = TypeVar("M", bound=nn.Module)


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors by name, whole or not at all."""
    plain = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    with written_aside(path) as aside:
        aside.write_bytes(save(plain))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read what `save_tensors` wrote; RunError where it is missing, damaged or no such file."""
    if not path.is_file():
        raise RunError(f"{path}: no such file; a run has weights from its first validation on")
    with path.open("rb") as file:
        head = file.read(9)
    # A safetensors file is the length of its header in 8 bytes, then the header, a JSON object.
    if head[8:] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80"):
        raise RunError(
            f"{path}: is a pickle (a torch.save file), which can run code when it is loaded; "
            "elman reads safetensors only: convert it with safetensors.torch.save_file"
        )
    with reading(path, "safetensors", error=RunError, cure=RESTORE):
        return load_file(path)


def save_model(path: Path, model: nn.Module) -> None:
    """Write a model's parameters and buffers."""
    save_tensors(path, model.state_dict())


def load_model(path: Path, model: nn.Module) -> None:
    """Fill a model; RunError names the first tensor that does not fit."""
    fill(model, load_tensors(path), path)


def load_built(build: Callable[[], M], path: Path) -> M:
    """The model that ``build`` makes, filled; what it is made with is limited, see `Budget`.

    Raises RunError, and ValueError where the limit is passed.
    """
    tensors = load_tensors(path)
    with Budget(tensors):
        model = build()
    fill(model, tensors, path)
    return model


def fill(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Fill a model with tensors that came from ``path``."""
    require_fitting(model.state_dict(), tensors, path)
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise RunError(f"{path}: tensor '{name}' holds values that are not finite")
    dtypes = {value.dtype for value in tensors.values() if value.is_floating_point()}
    if len(dtypes) == 1:
        model.to(dtypes.pop())
    model.load_state_dict(tensors)


def require_fitting(wanted: Mapping[str, Tensor], tensors: dict[str, Tensor], path: Path) -> None:
    """Raise RunError for the first tensor that a model has not, lacks, or has in another shape."""
    for name in sorted(wanted.keys() ^ tensors.keys()):
        side = "lacks" if name in wanted else "has the unknown"
        raise RunError(f"{path}: {side} tensor '{name}': these are the weights of another model")
    for name, value in tensors.items():
        if value.shape != wanted[name].shape:
            raise RunError(
                f"{path}: tensor '{name}' is {list(value.shape)}, the model needs "
                f"{list(wanted[name].shape)}: these are the weights of another model"
            )
