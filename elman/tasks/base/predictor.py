"""A trained model: what `elman.load` returns, whatever the task."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elman.data.core.batch import Batch
from elman.errors import OptionError
from elman.models.common.loss import Loss
from elman.models.decoding import Decoding
from elman.tasks.base.streaming import Streaming
from elman.train.processor import Processor
from elman.train.run import Run


@dataclass(frozen=True)
class Predictor:
    """A trained model with the processor of its data.

    A subclass has what its task can do: `predict` (inputs to answers), `evaluate` (files to
    scores), `generate` (a text, or sequences). Training scores its model through one too.
    """

    run: Run
    options: Any
    model: Any
    processor: Processor[Any]

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

    # Scores

    def loss(self, batch: Batch, state: Any) -> Loss:
        """The loss of a batch, and the state after it."""
        return self.model.loss(**batch.tensors)

    def measure(self, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        """What a batch adds to each sum, and the state to carry on with."""
        loss = self.loss(batch, state)
        return {"total": float(loss.total), "count": float(loss.count)}, loss.state

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        """The scores from the sums over all batches; the loss first."""
        return {self.processor.loss_name: sums["total"] / max(sums["count"], 1)}

    def _cannot(self, command: str, instead: str) -> OptionError:
        task = self.run.config["task"]
        return OptionError(
            f"{self.run.folder}: a run of '{task}' has no '{command}'; try elman {instead} "
            f"{self.run.folder}"
        )
