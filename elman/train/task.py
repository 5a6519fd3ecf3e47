"""What is particular to one kind of training; everything else is the same for all."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from rich.console import Console
from torch import nn

from elman.cells import Cell
from elman.data.core.batch import Batch, Batches
from elman.data.core.files import RESTORE
from elman.data.core.reading import reading
from elman.data.core.typed import as_type, typed
from elman.data.text.corpus import ProgressCallback
from elman.errors import OptionError, RunError
from elman.models.common.loss import Loss
from elman.train.custom_cell import cell_class
from elman.train.options import ModelOptions
from elman.train.run import Run

O = TypeVar("O", bound=ModelOptions)


class Task(ABC, Generic[O]):
    """One training of one kind: from the files of a run to its model, and what it is judged by.

    A subclass says what its options are, how files become batches, what the model is, and what a
    person wants to see at the end. It may say more about the scores.
    """

    #: What the command is called, and what the model is to people.
    name: ClassVar[str]
    title: ClassVar[str]
    #: What the command line says of it, and of the files that it takes.
    help: ClassVar[str]
    files_help: ClassVar[str]
    options_type: ClassVar[type[ModelOptions]]
    #: What the loss is a mean over.
    unit: ClassVar[str] = "sequence"
    #: What the loss is called in metrics.csv; `scores` has it under this name.
    loss_name: ClassVar[str] = "loss_nats"
    #: The score that says which weights are kept, and whether more of it is better.
    criterion: ClassVar[str] = "loss_nats"
    larger_is_better: ClassVar[bool] = False

    def __init__(self, run: Run, options: O) -> None:
        self.run = run
        self.options = options

    @property
    def found(self) -> dict[str, Any]:
        """What `prepare` found in the data."""
        found = self.run.config.get("found")
        if not isinstance(found, dict):
            raise RunError(f"{self.run.config_file}: does not say what its data are; {RESTORE}")
        return found

    def fact(self, name: str, kind: Any) -> Any:
        """One of `found`, of this type; RunError where it is missing or of another."""
        return self._checked(self.found, name, kind)

    @property
    def files(self) -> list[str]:
        """The files to train on; none for the embedded data."""
        return self._checked(self.run.config, "files", list[str])

    def _checked(self, values: dict[str, Any], name: str, kind: Any) -> Any:
        if name not in values:
            raise RunError(f"{self.run.config_file}: lacks '{name}'; {RESTORE}")
        with reading(self.run.config_file, "a run", error=RunError, cure=RESTORE):
            return as_type(kind, values[name], name)

    # From data to a model

    @classmethod
    def check(cls, options: O, files: list[str]) -> None:
        """Raise OptionError for what can never work, before any file is made."""
        cell_class(options.cell)

    @abstractmethod
    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        """Write the data as numbers into the run folder; the facts that `found` returns, as JSON
        knows them."""

    @abstractmethod
    def build(self, cell: type[Cell]) -> nn.Module:
        """The model that options and data call for, with first values."""

    @abstractmethod
    def batches(self) -> tuple[Batches, Batches]:
        """To train on, and to validate on."""

    @abstractmethod
    def summary(self) -> str:
        """The data in a line for people."""

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        """The loss of a training batch. progress: the share of the training done, 0 to 1."""
        return model.loss(**batch.tensors)

    def measure(self, model: Any, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        """What a validation batch adds to each sum, and the state to carry on with."""
        loss = self.loss(model, batch, state, 1.0)
        return {"total": float(loss.total), "count": float(loss.count)}, loss.state

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        """The scores of a validation from its sums; the loss first."""
        return {self.loss_name: sums["total"] / max(sums["count"], 1)}

    def show(self, scores: dict[str, float]) -> str:
        """Scores as people compare them."""
        return "  ".join(f"{_label(name)} {value:.4f}" for name, value in scores.items())

    def monitor(self, scores: dict[str, float]) -> float:
        """The criterion as a number of which less is better."""
        value = scores[self.criterion]
        return -value if self.larger_is_better else value

    # The end

    @abstractmethod
    def load(self, cell: type[Cell]) -> Any:
        """The trained model, as `elman.load` returns it."""

    @abstractmethod
    def finish(self, cell: type[Cell], console: Console) -> None:
        """After the last step: write and print what a person wants to see of the best weights."""


def options_of(run: Run, kind: type[Task]) -> Any:
    """The options that a run was trained with; RunError where it is no run of this task."""
    config = run.config
    if config.get("task") != kind.name:
        raise RunError(f"{run.folder}: is a run of task '{config.get('task')}', not {kind.title}")
    try:
        return typed(kind.options_type, config.get("options"))
    except (ValueError, OptionError) as error:
        raise RunError(
            f"{run.config_file}: is damaged or foreign: options: {error}; {RESTORE}"
        ) from error


def perplexity(nats: float) -> float:
    """exp(nats), infinite where no number can hold it."""
    return math.exp(nats) if nats < 700 else math.inf


def _label(name: str) -> str:
    return name.removesuffix("_nats").replace("_", " ") + (
        " (nats)" if name.endswith("_nats") else ""
    )
