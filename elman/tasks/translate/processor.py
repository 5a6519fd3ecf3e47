"""Pairs of texts as numbers: the units of both sides."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.records import RecordSource, SkipLog
from elman.data.synthetic.dates import dates
from elman.data.text.corpus import ProgressCallback
from elman.data.text.encoder import TextEncoder
from elman.data.text.pairs import Pair, text_pairs
from elman.tasks.base.example_processor import ExampleProcessor
from elman.tasks.translate.options import TranslateOptions

#: Pairs of the embedded data.
DATES = 12_000


class TranslateProcessor(ExampleProcessor[TranslateOptions, Pair]):
    """The units of sources and of targets, each fitted on its side of the training part."""

    bucket_by = "source"

    def read(self, files: list[str]) -> RecordSource[Pair]:
        o = self.options
        if files:
            columns = {"source_column": o.source_column, "target_column": o.target_column}
            return text_pairs(files, **columns, **o.table)

        def made(skipped: SkipLog) -> Iterator[Pair]:
            for number, (source, target) in enumerate(dates(DATES, seed=1)):
                yield Pair(source, target, f"date {number + 1}")

        return RecordSource(f"{DATES:,} dates in many forms, and in ISO's", made)

    def fit(self, train: RecordSource[Pair], report: ProgressCallback) -> dict[str, Any]:
        o = self.options
        unit = o.tokenizer if o.tokenizer != "auto" else self._unit(train)
        size = o.vocab_size or {"bpe": 8000}.get(unit)
        how: dict[str, Any] = {
            "min_count": o.least_count,
            "lower_case": o.lower_case,
            "bpe_sample": o.bpe_sample,
        }
        for side, specials in (("source", ["end"]), ("target", ["start", "end"])):
            texts = (getattr(pair, side) for pair in train)
            units = TextEncoder.fit(unit, texts, vocab_size=size, specials=specials, **how)
            units.save(self._units_file(side))
        return {"tokenizer": unit}

    def _unit(self, train: RecordSource[Pair]) -> str:
        if not self.files:
            return "char"
        spaces = [" " in pair.source.strip() for pair, _ in zip(train, range(1000), strict=False)]
        return "word" if sum(spaces) > len(spaces) / 2 else "char"

    def _units_file(self, side: str) -> Path:
        return self.run.folder / f"{side}.json"

    def _units(self, side: str, *specials: str) -> TextEncoder:
        return self.once(side, lambda: TextEncoder.load(self._units_file(side), specials))

    @property
    def source(self) -> TextEncoder:
        """The units that are read."""
        return self._units("source", "end")

    @property
    def target(self) -> TextEncoder:
        """The units that are written."""
        return self._units("target", "start", "end")

    def encode(self, record: Pair, source: RecordSource[Pair]) -> Mapping[str, Any] | None:
        x = self.cut(self.source.encode(record.source), record, source)
        y = self.cut(self.target.encode(record.target), record, source)
        if x is None or y is None:
            return None
        texts = {"source_text": record.source, "target_text": record.target}
        return {"source": self.ended(x), "target": y, **texts}

    def encode_source(self, text: str) -> NDArray[Any]:
        """The units of a source as the model reads them."""
        return self.ended(self.source.encode(text))

    def ended(self, x: NDArray[Any]) -> NDArray[Any]:
        """The units of a source with the end that the model reads."""
        return np.append(x, self.source.end_id)

    def cased(self, texts: list[str]) -> list[str]:
        """Texts as the model would write them."""
        return [text.lower() for text in texts] if self.options.lower_case else texts
