"""What is particular to one kind of training; everything else is the same for all."""

import math
import shlex
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from rich.console import Console
from torch import nn

from elman.cells import Cell
from elman.data.core.batch import Batch, Batches
from elman.data.core.files import RESTORE
from elman.data.core.typed import typed
from elman.data.text.corpus import ProgressCallback
from elman.errors import OptionError, RunError
from elman.models.common.loss import Loss
from elman.train.custom_cell import cell_argument, cell_class
from elman.train.options import ModelOptions
from elman.train.processor import Processor
from elman.train.run import Run
from elman.train.weights import load_built

O = TypeVar("O", bound=ModelOptions)


class Task(ABC, Generic[O]):
    """One training of one kind: from the files of a run to its model, and what it is judged by.

    A subclass names its options, its processor (how files become arrays) and its predictor (what a
    model is used and scored through), builds the model, and says what a person wants to see at the
    end.
    """

    #: What the command is called, and what the model is to people.
    name: ClassVar[str]
    title: ClassVar[str]
    #: What the command line says of it, and of the files that it takes.
    help: ClassVar[str]
    files_help: ClassVar[str]
    options_type: ClassVar[type[ModelOptions]]
    #: What is fitted on the data, and what a trained model is used through.
    processor_type: ClassVar[type[Processor]]
    predictor_type: ClassVar[type[Any]]
    #: What the loss is a mean over.
    unit: ClassVar[str] = "sequence"
    #: The score that says which weights are kept, the loss where none is named; and whether more
    #: of it is better.
    criterion: ClassVar[str | None] = None
    larger_is_better: ClassVar[bool] = False

    def __init__(self, run: Run, options: O) -> None:
        self.run = run
        self.options = options
        self.processor = self.processor_type(run, options)

    def predictor(self, model: nn.Module) -> Any:
        """A model of this task, with what it needs to predict and to be scored."""
        return self.predictor_type(self.run, self.options, model, self.processor)

    # From data to a model

    @classmethod
    def check(cls, options: O, files: list[str]) -> None:
        """Raise OptionError for what can never work, before any file is made."""
        cell_class(options.cell)

    @abstractmethod
    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        """Fit the processor, and write the data as numbers into the run folder; the metadata, as
        JSON knows them."""

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
        return self.predictor(model).loss(batch, state)

    def show(self, scores: dict[str, float]) -> str:
        """Scores as people compare them."""
        return "  ".join(f"{_label(name)} {value:.4f}" for name, value in scores.items())

    def monitor(self, scores: dict[str, float]) -> float:
        """The criterion as a number of which less is better."""
        value = scores[self.criterion or self.processor.loss_name]
        return -value if self.larger_is_better else value

    # The end

    def load(self, cell: type[Cell]) -> Any:
        """The predictor with the best weights, as `elman.load` returns it."""
        model = load_built(lambda: self.build(cell), self.run.weights_file)
        return self.predictor(model.eval())

    def point_to(
        self, console: Console, *names: str, uses: Sequence[str] = ('predict RUN "..."',)
    ) -> None:
        """Print which files of the run folder to look at, and how the model is used.

        uses: commands of `elman`, with RUN for the run folder.
        """
        folder = self.run.folder
        shown = ", ".join(str(folder / name) for name in ("curves.png", *names))
        run = f"{shlex.quote(str(folder))}{cell_argument(self.options.cell)}"
        commands = [f"elman {use.replace('RUN', run, 1)}" for use in uses]
        for line in (f"see:    {shown}", "more:   " + "\n        ".join(commands)):
            console.print(line, highlight=False, markup=False)

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
