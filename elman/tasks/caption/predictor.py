"""A trained captioner: pictures in, what it writes of them out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from elman.data.images.arrays import Pixels, fit_image, read_image
from elman.data.images.captions import pictures_in
from elman.data.text.encoder import TextEncoder
from elman.errors import ShapeError
from elman.models.decoding import Decoding, Hypothesis
from elman.models.images.captioner import Captioner
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.seq2seq import Seq2SeqPredictor, symbol

if TYPE_CHECKING:
    from elman.tasks.caption.task import Captioning


@dataclass(frozen=True)
class CaptionPredictor(Seq2SeqPredictor):
    """A trained model from picture to text. An input is a file, or pixels [H, W, 3] uint8."""

    model: Captioner
    task: "Captioning"

    @property
    def decoding(self) -> Decoding:
        """Beam search, as for the scores at the end of training; something is always said."""
        return Decoding(beams=self.options.beams, max_length=60, min_length=1)

    @property
    def target(self) -> TextEncoder:
        """The units of captions."""
        return self.task.units

    def parse(self, text: str) -> Path | None:
        """The file that a line names."""
        return Path(text.strip()) if text.strip() else None

    def read_inputs(self, file: str | Path) -> Iterator[Path]:
        """A picture itself, those of a folder, or those that a table names."""
        return pictures_in(Path(file), **self.options.lists)

    def is_empty(self, given: Any) -> bool:
        """Whether no picture is named."""
        return given is None or (isinstance(given, str) and not given.strip())

    def begin(self, inputs: list[Any]) -> tuple[Any, Tensor | None, list[Any]]:
        """The state after the pictures were read."""
        pictures = [self._read(given) for given in inputs]
        state = self.model.start_state(torch.from_numpy(np.stack(pictures)))
        return state, None, list(zip(inputs, pictures, strict=True))

    def _read(self, given: Any) -> Pixels:
        size, fit = self.task.size, self.options.fit
        if not isinstance(given, np.ndarray):
            return read_image(given, size, fit=fit)
        if given.ndim != 3 or given.shape[2] != 3 or given.dtype != np.uint8:
            raise ShapeError(
                f"a picture must be uint8 [H, W, 3], got {given.dtype} {list(given.shape)}"
            )
        return fit_image(given, size, fit)

    def answer(self, known: Any, record: dict[str, Any], text: str, best: Hypothesis) -> Prediction:
        """The caption, and where each of its units looked."""
        given, picture = known
        named = {} if isinstance(given, np.ndarray) else {"picture": str(given)}
        attention = None
        if best.attention is not None:
            words = [symbol(self.target, i) for i in best.tokens]
            attention = (_on_grid(best.attention, picture), words, picture)
        return Prediction(text, {**named, **record}, attention)


def _on_grid(weights: Tensor, picture: Pixels) -> Any:
    """[steps, S] as [steps, h, w], a grid of the picture's shape; a row where there is none."""
    steps, places = weights.shape
    rows = max(1, round((places * picture.shape[0] / picture.shape[1]) ** 0.5))
    shape = (rows, places // rows) if places % rows == 0 else (1, places)
    return weights.reshape(steps, *shape).numpy()
