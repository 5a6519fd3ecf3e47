"""Pictures and their captions as numbers."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elman.data.core.examples import Examples
from elman.data.core.records import RecordSource, SkipLog
from elman.data.images.arrays import Pixels, fit_image, image_size, parse_size, readable_image
from elman.data.images.captions import CaptionedPicture, captioned_pictures
from elman.data.synthetic.scenes import SIDE, scenes
from elman.data.text.corpus import ProgressCallback
from elman.data.text.encoder import TextEncoder
from elman.models.images.backbones import is_backbone
from elman.tasks.base.example_processor import ExampleProcessor
from elman.tasks.caption.options import LARGEST, CaptioningOptions

#: Scenes of the embedded data.
SCENES = 3_000
#: Pictures of several sizes are read at this one.
USUAL = 64


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """A picture that is no file, and what is said of it."""

    picture: Pixels
    captions: tuple[str, ...]
    where: str


Captioned = CaptionedPicture | DrawnPicture


class CaptionProcessor(ExampleProcessor[CaptioningOptions, Captioned]):
    """The units of captions, and the size that pictures are read at.

    An example is a picture with all its captions.
    """

    bucket_by = None

    def read(self, files: list[str]) -> RecordSource[Captioned]:
        if files:
            return captioned_pictures(files, **self.options.lists)  # type: ignore[return-value]

        def made(skipped: SkipLog) -> Iterator[Captioned]:
            for number, (picture, captions) in enumerate(scenes(SCENES, seed=1)):
                yield DrawnPicture(picture, captions, f"scene {number + 1}")

        return RecordSource(f"{SCENES:,} drawn scenes", made)

    def fit(self, train: RecordSource[Captioned], report: ProgressCallback) -> dict[str, Any]:
        o = self.options
        sizes: Counter[tuple[int, int]] = Counter()
        captions: Counter[str] = Counter()
        for number, record in enumerate(train):
            captions.update(self.cased(text) for text in record.captions)
            size = _size(record)
            sizes.update([] if size is None else [size])
            if number % 256 == 0:
                report("looking at the pictures", number, 0)
        units = TextEncoder.fit(
            o.tokenizer,
            (text for text, count in captions.items() for _ in range(count)),
            vocab_size=o.vocab_size or (4096 if o.tokenizer == "bpe" else None),
            min_count=o.least_count,
            bpe_sample=o.bpe_sample,
            lower_case=o.lower_case,
            specials=["start", "end"],
        )
        units.save(self._units_file)
        likely = min(captions.items(), key=lambda item: (-item[1], item[0]), default=("", 0))[0]
        return {"size": self._chosen(sizes), "sizes": len(sizes), "most_frequent": likely}

    def _chosen(self, sizes: Counter[tuple[int, int]]) -> list[int]:
        """(H, W) that pictures are read at."""
        if self.options.size is not None:
            return list(parse_size(self.options.size))
        if is_backbone(self.options.encoder):
            return [LARGEST, LARGEST]
        alike = len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST
        return list(next(iter(sizes))) if alike else [USUAL, USUAL]

    @property
    def _units_file(self) -> Path:
        return self.run.folder / "units.json"

    @property
    def units(self) -> TextEncoder:
        """The units that captions are written in."""
        specials = ("start", "end")
        return self.once("units", lambda: TextEncoder.load(self._units_file, specials))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the pictures that the model reads."""
        return self.fact("size", tuple[int, int])

    def encode(
        self, record: Captioned, source: RecordSource[Captioned]
    ) -> Mapping[str, Any] | None:
        picture = self.picture(record, source.skipped)
        if picture is None:
            return None
        ids = [self.cut(self.units.encode(text), record, source) for text in record.captions]
        written = [np.append(one, self.units.end_id) for one in ids if one is not None]
        if not written:
            return None
        # Captions hold no line end.
        texts = "\n".join(record.captions)
        return {"captions": np.concatenate(written), "picture": picture, "texts": texts}

    def picture(self, record: Captioned, skipped: SkipLog) -> Pixels | None:
        """A picture as the model reads it; None where it cannot be read, and that may be."""
        o = self.options
        if isinstance(record, DrawnPicture):
            return fit_image(record.picture, self.size, o.fit)
        return readable_image(record.file, skipped, self.size, skip_bad=o.skip_bad, fit=o.fit)

    def captions(self, examples: Examples) -> list[list[str]]:
        """All that would be right to say of each."""
        return [self.cased(str(row["texts"])).split("\n") for row in examples]

    def cased(self, text: str) -> str:
        """A text as the model would write it."""
        return text.lower() if self.options.lower_case else text


def _size(record: Captioned) -> tuple[int, int] | None:
    if isinstance(record, DrawnPicture):
        return SIDE, SIDE
    return image_size(record.file)
