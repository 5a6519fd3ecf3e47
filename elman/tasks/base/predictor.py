"""A trained model: what `elman.load` returns, whatever the task."""

from dataclasses import dataclass
from typing import Any

from elman.data.core.batch import Batch
from elman.models.common.loss import Loss
from elman.train.processor import Processor
from elman.train.run import Run


@dataclass(frozen=True)
class Predictor:
    """A trained model with the processor of its data.

    A subclass has the methods of what its task can do: see `elman.tasks.base.capabilities`.
    Training scores its model through one too.
    """

    run: Run
    options: Any
    model: Any
    processor: Processor[Any]

    def __getattr__(self, name: str) -> Any:
        # Called for what a subclass lacks alone.
        if name in ("predict", "stream", "generate", "evaluate"):
            raise AttributeError(f"{type(self).__name__}: this kind of model has no {name}()")
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

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
