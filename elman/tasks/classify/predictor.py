"""A trained classifier: sequences in, labels out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from elman.data.core.batch import Batch
from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.models.common.classifier import Classifier
from elman.models.common.scores import accuracy, accuracy_counts
from elman.tasks.base.audio import SoundInputs
from elman.tasks.base.example_predictor import ExamplePredictor, answered, batched
from elman.tasks.base.prediction import Prediction
from elman.tasks.classify.options import ClassifyOptions
from elman.tasks.classify.processor import ClassifyProcessor
from elman.tasks.classify.stream import ClassifierStream, SoundClassifierStream


@dataclass(frozen=True)
class ClassifyPredictor(ExamplePredictor):
    """A trained classifier."""

    options: ClassifyOptions
    model: Classifier
    processor: ClassifyProcessor

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, the most frequent in training first."""
        return self.processor.labels.names

    def parse(self, text: str) -> Any:
        return self.processor.inputs.parse(text)

    def read_inputs(self, file: str | Path) -> Iterator[Any]:
        # Without a header the last column is the label, so it must be there.
        more = {"labelled": not self.options.header, **self.processor.embedded}
        return self.processor.inputs.read(file, self.options, **more)

    def predict(self, inputs: Iterable[Any], *, batch_size: int = 64) -> Iterator[Prediction]:
        """For each text, or [T, F] numbers, the probability of each label."""
        encoded = (self.processor.inputs.encode(value) for value in inputs)
        return answered(encoded, batch_size, lambda x: len(x) == 0, self._answers)

    def stream(self) -> ClassifierStream:
        sounds = isinstance(self.processor.inputs, SoundInputs)
        kind = SoundClassifierStream if sounds else ClassifierStream
        return kind(self.model, self.processor)

    def _answers(self, encoded: list[Any]) -> Iterator[Prediction]:
        return map(self.processor.answer, self.answers(encoded, len(encoded)))

    def answers(self, encoded: Iterable[Any], batch_size: int = 64) -> Iterator[torch.Tensor]:
        """[num_classes] probabilities for each of what `Inputs.encode` gave."""
        for rows in batched(encoded, batch_size):
            t = collate([{"x": x} for x in rows]).tensors
            with torch.inference_mode():
                yield from self.model(t["x"], t["x_lengths"]).softmax(-1)

    # Scores

    def measure(self, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        t = batch.tensors
        logits = self.model(t["x"], t["x_lengths"])
        total = F.cross_entropy(logits, t["label"], reduction="sum")
        right = accuracy_counts(logits.argmax(-1), t["label"])
        return {"total": float(total), "count": float(len(logits)), **right}, None

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        return {**super().scores(sums), "accuracy": accuracy(sums)}

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """Always the label that is the most frequent in training."""
        share = float((examples.numbers("label") == 0).mean())
        return {"name": f"always '{self.labels[0]}'", "accuracy": share}
