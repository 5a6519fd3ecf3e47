"""What is spoken, written down while it is."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from elman.data.audio.samples import Samples
from elman.models.audio.ctc import Collapse
from elman.models.audio.transcriber import Transcriber
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.streaming import stack_stream
from elman.tasks.transcribe.processor import TranscribeProcessor


class LiveTranscript:
    """The best path of a sound that comes in pieces: features, layers and units are carried on.

    Memory does not grow. Raises OptionError for a model that hears from both ends.
    """

    #: Answers follow each other in one line.
    between = ""

    def __init__(self, model: Transcriber, processor: TranscribeProcessor) -> None:
        self.model, self.processor = model, processor
        self.layers = stack_stream(processor.run.folder, model.reader.encoder.stack)
        self.audio = processor.audio.stream()
        self.step_seconds = processor.audio.features.step_seconds
        self._begin()

    def _begin(self) -> None:
        self.layers.reset()
        self.audio.end()
        self.collapse = Collapse(self.model.blank)
        self.decoder = self.processor.units.tokenizer.decoder()
        self.steps = 0

    def pieces(self, stdin: BinaryIO) -> Iterator[Samples]:
        """Samples, the time of a step at once."""
        return self.audio.pieces(stdin)

    def __call__(self, piece: Samples) -> Prediction | None:
        """The units that begin with the steps that these samples complete."""
        text, units = "", []
        for x in self.audio(piece):
            log_p = self.model.output(self.layers(x)).log_softmax(dim=-1)
            unit = self.collapse(int(self.processor.without_unknown(log_p).argmax()))
            if unit is not None:
                text += self.decoder.push(unit)
                units.append(self._said(unit))
            self.steps += 1
        return Prediction(text, {"text": text, "units": units}) if units else None

    def _said(self, unit: int) -> dict[str, Any]:
        symbol = self.processor.units.tokenizer.symbol(unit)
        return {"unit": symbol, "seconds": round(self.steps * self.step_seconds, 3)}

    def end(self) -> Prediction:
        """The end of the line."""
        rest, seconds = self.decoder.end(), self.steps * self.step_seconds
        self._begin()
        return Prediction(f"{rest}\n", {"text": rest, "end": round(seconds, 3)})
