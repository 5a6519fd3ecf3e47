"""A trained model of pictures: drawing, completing, scoring, row by row from standard input."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from elman.data.core.batch import Batch
from elman.data.core.examples import Examples
from elman.data.images.arrays import BLANK, Pixels, write_sheet
from elman.data.images.pictures import Picture, to_levels
from elman.errors import DataError, OptionError, require_positive
from elman.models.common.loss import Loss
from elman.models.common.sampling import check_sampling, seeded
from elman.models.images.pixels import PixelModel, Telling
from elman.tasks.base.example_predictor import ExamplePredictor, batched
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.streaming import Lines
from elman.tasks.pixels.options import PixelOptions
from elman.tasks.pixels.processor import PixelProcessor

AT_ONCE = 64
#: From black to white, for people who look at a terminal.
SHADES = " .:-=+*#%@"


@dataclass(frozen=True)
class PixelPredictor(ExamplePredictor):
    """A trained model that tells pictures value by value."""

    options: PixelOptions
    model: PixelModel
    processor: PixelProcessor

    def generate(
        self,
        count: int = 10,
        *,
        prompt: str | Path | None = None,
        prompt_length: int | None = None,
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> Iterator[Pixels]:
        """Pictures [H, W, C], drawn, or completed.

        prompt: a picture whose beginning is kept; a folder or an idx file: a picture of it for
        each that is written, as long as there are some. prompt_length: the rows that are kept,
        half of them where not given; with --permute as many pixels as are in so many rows, the
        first of the order. temperature: 0 takes the likeliest value at each step. seed: the same
        draws the same; None draws others every time.

        Raises OptionError, DataError.
        """
        require_positive(count=count)
        check_sampling(temperature, None, None)
        generator = seeded(seed)
        if prompt is None:
            if prompt_length is not None:
                raise OptionError("prompt_length is of a --prompt, a picture to begin with")
            for several in batched(range(count), AT_ONCE):
                yield from self._drawn(len(several), None, 0, temperature, generator)
            return
        rows = self._rows(prompt_length)
        found = list(islice(self.read_inputs(prompt), count))
        given = found * count if len(found) == 1 else found
        for pictures in batched(given, AT_ONCE):
            x = self._encoded(pictures)
            yield from self._drawn(len(pictures), x, self._known(rows), temperature, generator)

    def complete(
        self, given: Sequence[NDArray[np.integer]], rows: int, *, seed: int | None = None
    ) -> list[Pixels]:
        """Pictures [D] of levels, with all but the first rows drawn anew; see `generate`."""
        generator = seeded(seed)
        x = torch.from_numpy(np.stack(given, 1).astype(np.int64))
        return self._drawn(x.shape[1], x, self._known(rows), 1.0, generator)

    def begun(self, x: NDArray[np.integer], rows: int) -> Pixels:
        """A picture [D] of levels in colour, of which only what `complete` is given is shown."""
        told = np.zeros(len(x), bool)
        told[self.model.order.numpy()[: self._known(rows)]] = True
        known = told.reshape(self.processor.shape)
        return np.where(known, self.processor.picture_of(x), BLANK).astype(np.uint8)

    def _drawn(
        self,
        count: int,
        given: torch.Tensor | None,
        known: int,
        temperature: float,
        generator: torch.Generator,
    ) -> list[Pixels]:
        x = self.model.generate(
            count, given=given, known=known, temperature=temperature, generator=generator
        )
        return [self.processor.picture_of(column) for column in x.T.numpy()]

    def _known(self, rows: int) -> int:
        _, W, C = self.processor.shape
        return rows * W * C

    def _rows(self, asked: int | None) -> int:
        H = self.processor.shape[0]
        rows = H // 2 if asked is None else asked
        if not 0 <= rows <= H:
            raise OptionError(
                f"prompt_length must lie in 0 ... {H}, the rows there are, got {rows}"
            )
        return rows

    def _encoded(self, pictures: Sequence[Picture]) -> torch.Tensor:
        x = np.stack([self.processor.levels_of(picture.pixels) for picture in pictures], 1)
        return torch.from_numpy(x.astype(np.int64))

    # What was written

    def line(self, found: Pixels) -> str:
        """A picture as characters, a line a row, dark to bright."""
        bright = found.mean(-1) * (len(SHADES) / 256)
        return "\n".join("".join(SHADES[int(v)] * 2 for v in row).rstrip() for row in bright) + "\n"

    def record(self, found: Pixels) -> dict[str, Any]:
        """A picture for programs: rows of pixels, each its values from 0 to 255."""
        return {"picture": (found[..., 0] if found.shape[2] == 1 else found).tolist()}

    def save(self, written: Iterator[Pixels], out: Path) -> None:
        """Write a sheet of them, as PNG."""
        write_sheet(out, list(batched(written, 10)))

    # Scoring

    def read_inputs(self, file: str | Path) -> Iterator[Picture]:
        """The pictures in a folder, a picture file or an idx file."""
        return iter(self.processor.read([str(file)]))

    def parse(self, text: str) -> Picture:
        """The picture in a file; DataError for what holds several."""
        found = list(islice(self.read_inputs(text), 2))
        if len(found) != 1:
            raise DataError(f"{text}: holds {'several pictures' if found else 'no picture'}; an "
                            "input is one, --file takes many")  # fmt: skip
        return found[0]

    def predict(
        self, inputs: Iterable[Picture], *, batch_size: int = AT_ONCE
    ) -> Iterator[Prediction]:
        """How likely each picture is: -log p(x) in nats and in bits a value, and of independent
        pixels."""
        for several in batched(inputs, batch_size):
            x = self._encoded(several)
            for picture, column, nats in zip(
                several, x.T.numpy(), self.model.nats(x).sum(0).tolist(), strict=True
            ):
                bits, alone = self.bits(nats), self.processor.independent.nats(column)
                record = {
                    "picture": picture.where,
                    "nats": nats,
                    "bits_per_dim": bits,
                    "independent_nats": alone,
                }
                yield Prediction(f"{nats:.2f} nats\t{bits:.4f} bits/dim\t{picture.where}", record)

    def stream(self) -> "RowStream":
        """How likely each row of a picture is, given those before it, as the rows come."""
        if self.options.permute is not None:
            raise OptionError(
                f"{self.run.folder}: tells pixels in an order of its own (--permute), rows come "
                "top to bottom; train without"
            )
        return RowStream(self)

    # Scores

    def loss(self, batch: Batch, state: Any) -> Loss:
        return self.model.loss(batch.tensors["x"])

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        scores = super().scores(sums)
        return {**scores, "bits_per_dim": self.bits(scores["loss_nats"])}

    def bits(self, nats: float) -> float:
        """Nats of a picture as bits of each of its values."""
        return nats / (math.prod(self.processor.shape) * math.log(2))

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """Pixels that know nothing of each other."""
        model = self.processor.independent
        nats = sum(model.nats(np.asarray(row["x"])) for row in examples) / len(examples)
        return {"name": "independent pixels", "loss_nats": nats, "bits_per_dim": self.bits(nats)}


class RowStream(Lines):
    """Rows as lines of values from 0 to 255; the last row of a picture ends it."""

    def __init__(self, trained: PixelPredictor) -> None:
        self.trained = trained
        self.row = 0
        self.telling = Telling(trained.model, 1)

    def __call__(self, piece: str) -> Prediction:
        """The nats of a row."""
        H, W, C = self.trained.processor.shape
        nats = 0.0
        for level in self._levels(piece, W * C):
            x = torch.tensor([level])
            nats += float(F.cross_entropy(self.telling.logits(), x))
            self.telling.tell(x)
        row, bits = self.row, self.trained.bits(nats * H)
        self.row += 1
        if self.row == H:
            self.end()
        record = {"row": row, "nats": nats, "bits_per_dim": bits}
        return Prediction(f"row {row}\t{nats:.2f} nats\t{bits:.4f} bits/dim", record)

    def end(self) -> None:
        """The next row is the first of another picture."""
        self.row, self.telling = 0, Telling(self.trained.model, 1)

    def _levels(self, line: str, size: int) -> list[int]:
        words = line.replace(",", " ").split()
        if len(words) != size or not all(w.isdigit() and int(w) <= 255 for w in words):
            raise DataError(f"'{line[:40]}': a row is {size} whole numbers from 0 to 255")
        o = self.trained.options
        return to_levels(np.array(words, dtype=np.uint8), o.levels, o.draw_levels).tolist()
