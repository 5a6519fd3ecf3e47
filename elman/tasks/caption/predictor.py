"""A trained captioner: pictures in, what it writes of them out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from elman.data.core.batch import Batch
from elman.data.core.examples import Examples
from elman.data.images.arrays import Pixels, fit_image, read_image
from elman.data.images.captions import pictures_in
from elman.data.images.nearest import nearest_pictures
from elman.data.text.corpus import ProgressCallback
from elman.data.text.encoder import TextEncoder
from elman.errors import ShapeError
from elman.models.common.loss import Loss
from elman.models.decoding import Decoding, Hypothesis
from elman.models.images.captioner import Captioner
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.seq2seq import Seq2SeqPredictor, symbol
from elman.tasks.base.text_scores import caption_scores
from elman.tasks.caption.options import CaptioningOptions
from elman.tasks.caption.processor import CaptionProcessor


@dataclass(frozen=True)
class CaptionPredictor(Seq2SeqPredictor):
    """A trained model from picture to text. An input is a file, or pixels [H, W, 3] uint8."""

    options: CaptioningOptions
    model: Captioner
    processor: CaptionProcessor

    @property
    def decoding(self) -> Decoding:
        """Beam search, as for the scores at the end of training; something is always said."""
        return Decoding(beams=self.options.beams, max_length=60, min_length=1)

    @property
    def target(self) -> TextEncoder:
        """The units of captions."""
        return self.processor.units

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
        size, fit = self.processor.size, self.options.fit
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

    # Scores

    def loss(self, batch: Batch, state: Any) -> Loss:
        t = batch.tensors
        captions = captions_of(t["captions"], t["captions_lengths"], self.target.end_id)
        return self.model.loss(t["picture"], *captions)

    def score(self, examples: Examples, report: ProgressCallback | None = None) -> dict[str, Any]:
        """The loss, and how good captions by beam search are."""
        scores = super().score(examples, report)
        written: list[str] = []
        for answer in self.predict(row["picture"] for row in examples):
            written.append(self.processor.cased(answer.text))
            if report is not None:
                report("writing captions", len(written), len(examples))
        return {**scores, **caption_scores(written, self.processor.captions(examples))}

    def baseline(self, examples: Examples) -> Any:
        """The most frequent caption, and the first one of the nearest picture in training."""
        p = self.processor
        wanted, train = p.captions(examples), p.examples("train")
        frequent = [p.fact("most_frequent", str)] * len(wanted)
        nearest = nearest_pictures(
            [np.asarray(row["picture"]) for row in examples],
            (np.asarray(row["picture"]) for row in train),
        )
        theirs = [p.cased(str(train[i]["texts"])).split("\n")[0] for i in nearest]
        return [
            {"name": "most frequent caption", **caption_scores(frequent, wanted)},
            {"name": "nearest picture's caption", **caption_scores(theirs, wanted)},
        ]


def captions_of(ids: Tensor, lengths: Tensor, end: int) -> tuple[Tensor, Tensor, Tensor]:
    """All captions of a batch of pictures, one a column.

    ids: [S, B], the captions of each picture one after the other, behind each an end; lengths: [B]
      ->   target: [T, N], target_lengths: [N], rows: [N], whose picture each is
    """
    inside = (torch.arange(len(ids), device=ids.device)[:, None] < lengths).T
    flat, owner = ids.T[inside], inside.nonzero()[:, 0]
    ends = (flat == end).nonzero()[:, 0]
    sizes = torch.diff(ends, prepend=ends.new_tensor([-1]))
    target = nn.utils.rnn.pad_sequence(list(torch.split(flat, sizes.tolist())))[:-1]
    return target, sizes - 1, owner[ends]


def _on_grid(weights: Tensor, picture: Pixels) -> Any:
    """[steps, S] as [steps, h, w], a grid of the picture's shape; a row where there is none."""
    steps, places = weights.shape
    rows = max(1, round((places * picture.shape[0] / picture.shape[1]) ** 0.5))
    shape = (rows, places // rows) if places % rows == 0 else (1, places)
    return weights.reshape(steps, *shape).numpy()
