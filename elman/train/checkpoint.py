"""Checkpoints: all that training needs to go on as if nothing had happened."""

import math
import shutil
import warnings
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from elman.data.core.files import loaded, write_json, written_aside
from elman.data.core.typed import typed
from elman.errors import RunError
from elman.train.weights import load_tensors, save_tensors


@dataclass
class Position:
    """Where training stands, beside the tensors.

    step: optimiser steps done. seconds: of training. history: what the validations were
    judged by, in order; less is better.
    """

    step: int = 0
    seconds: float = 0.0
    history: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not (self.step >= 0 and 0 <= self.seconds < math.inf):
            raise ValueError(f"step {self.step}, {self.seconds} s: training stands nowhere there")


@dataclass
class Checkpoint:
    """Tensors by name for the model, the optimiser, the carried state of each process, and the
    running mean of the weights where there is one."""

    position: Position
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    carried: dict[str, Tensor]
    average: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint folder whole or not at all, then drop all but the newest ``keep``."""
    target = folder / f"step-{checkpoint.position.step:09d}"
    if target.exists():  # written at this very step already: after its validation, say
        return target
    with written_aside(target) as aside:
        aside.mkdir(parents=True)
        save_tensors(aside / "model.safetensors", checkpoint.model)
        save_tensors(aside / "optimizer.safetensors", checkpoint.optimizer)
        save_tensors(aside / "carried.safetensors", checkpoint.carried)
        if checkpoint.average:
            save_tensors(aside / "average.safetensors", checkpoint.average)
        write_json(aside / "position.json", asdict(checkpoint.position))
    for old in checkpoints_in(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoint folders, oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest that is whole, with a warning of those that are not; None where there is none.

    Raises RunError where all are damaged.
    """
    found = checkpoints_in(folder)
    for path in reversed(found):
        try:
            return load_checkpoint(path)
        except RunError as error:
            if path == found[0]:
                raise
            warnings.warn(f"{error}; training goes on from the checkpoint before", stacklevel=2)
    return None


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; RunError where it is damaged."""
    position = loaded(path / "position.json", "a position", partial(typed, Position))
    names = ["model", "optimizer", "carried"]
    names += ["average"] if (path / "average.safetensors").exists() else []
    return Checkpoint(position, **{n: load_tensors(path / f"{n}.safetensors") for n in names})


def flatten(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """The tensors in a nest of tuples, named by their place."""
    if value is None:
        return {}
    if isinstance(value, Tensor):
        return {prefix or ".": value}
    named = (flatten(part, f"{prefix}.{i}") for i, part in enumerate(value))
    return {name: tensor for part in named for name, tensor in part.items()}


def unflatten(tensors: dict[str, Tensor]) -> Any:
    """The nest of tuples that `flatten` took apart; None where there was none."""
    if not tensors:
        return None
    if "." in tensors:
        return tensors["."]
    return _nested({tuple(map(int, name[1:].split("."))): t for name, t in tensors.items()})


def _nested(tensors: dict[tuple[int, ...], Tensor]) -> Any:
    if () in tensors:
        return tensors[()]
    places = sorted({place[0] for place in tensors})
    return tuple(_nested({p[1:]: t for p, t in tensors.items() if p[0] == i}) for i in places)
