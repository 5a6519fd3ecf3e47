"""A trained model: what `elman.load` returns, whatever the task."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from elman.errors import OptionError
from elman.models.decoding import Decoding
from elman.tasks.base.streaming import Streaming
from elman.train.run import Run


@dataclass(frozen=True)
class Predictor:
    """A trained model with all that belongs to it.

    A subclass has what its task can do: `predict` (inputs to answers), `evaluate` (files to
    scores), `generate` (a text, or sequences).
    """

    run: Run
    options: Any
    model: nn.Module

    @property
    def decoding(self) -> Decoding:
        """How a model that writes step by step is read out where nothing else is asked for."""
        return Decoding()

    def predict(self, *given: Any, **how: Any) -> Any:
        """A `Prediction` for each input, in order."""
        raise self._cannot("predict", "sample")

    def read_inputs(self, file: str | Path) -> Iterator[Any]:
        """The inputs in a file of the kind that the model was trained on."""
        raise self._cannot("predict", "sample")

    def parse(self, text: str) -> Any:
        """The input that a line of text stands for."""
        raise self._cannot("predict", "sample")

    def stream(self) -> Streaming:
        """The model in the middle of a sequence: answers while the input comes."""
        raise OptionError(
            f"{self.run.folder}: a run of '{self.run.config['task']}' answers nothing before the "
            "end of its input, so it takes no --stream"
        )

    def evaluate(self, *given: Any, **how: Any) -> dict[str, Any]:
        """The scores on files of the kind that the model was trained on."""
        raise self._cannot("eval", "predict")

    def generate(self, *given: Any, **how: Any) -> Iterator[Any]:
        """What the model writes by itself."""
        raise self._cannot("sample", "predict")

    def _cannot(self, command: str, instead: str) -> OptionError:
        task = self.run.config["task"]
        return OptionError(
            f"{self.run.folder}: a run of '{task}' has no '{command}'; try elman {instead} "
            f"{self.run.folder}"
        )
