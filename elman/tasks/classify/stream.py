"""The label of a sequence, while it comes."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import torch

from elman.models.common.classifier import Classifier
from elman.tasks.base.audio import SoundInputs
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.streaming import Lines, stack_stream
from elman.tasks.classify.processor import ClassifyProcessor


class ClassifierStream(Lines):
    """The label of what there was so far, after each line: a step of numbers or a piece of text."""

    def __init__(self, model: Classifier, processor: ClassifyProcessor) -> None:
        self.model, self.processor = model, processor
        self.layers = stack_stream(processor.run.folder, model.reader.encoder.stack)
        self.pooled = model.pooling.running()

    def __call__(self, piece: Any) -> Prediction | None:
        model, x = self.model, self.vectors(piece)
        pooled = [self.pooled(self.layers(u[0])[None]) for u in model.reader.vectors(x[:, None])]
        if not pooled:
            return None
        return self.processor.answer(model.output(pooled[-1])[0].softmax(-1))

    def vectors(self, piece: Any) -> torch.Tensor:
        """[n] units, or [n, F] numbers, of a piece."""
        inputs = self.processor.inputs
        return torch.from_numpy(inputs.encode(inputs.parse(piece)))

    def end(self) -> None:
        self.layers.reset()
        self.pooled = self.model.pooling.running()


class SoundClassifierStream(ClassifierStream):
    """The label of what was heard so far, at each step of a sound that comes as PCM."""

    def __init__(self, model: Classifier, processor: ClassifyProcessor) -> None:
        super().__init__(model, processor)
        assert isinstance(processor.inputs, SoundInputs)
        self.audio = processor.inputs.audio.stream()

    def pieces(self, stdin: BinaryIO) -> Iterator[Any]:
        return self.audio.pieces(stdin)

    def vectors(self, piece: Any) -> torch.Tensor:
        return self.audio(piece)

    def end(self) -> None:
        super().end()
        self.audio.end()
