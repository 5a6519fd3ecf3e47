"""A trained translator: texts in, the texts that it writes for them out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.data.core.lines import read_lines
from elman.data.core.records import SkipLog
from elman.data.tables.table import Table, is_table
from elman.data.text.corpus import ProgressCallback
from elman.data.text.encoder import TextEncoder
from elman.data.text.labelled import text_of
from elman.data.text.pairs import SOURCE_NAMES
from elman.models.common.seq2seq import EncoderDecoder
from elman.models.decoding import Decoding, Hypothesis
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.seq2seq import Seq2SeqPredictor, symbol
from elman.tasks.base.text_scores import text_scores
from elman.tasks.translate.options import TranslateOptions
from elman.tasks.translate.processor import TranslateProcessor


@dataclass(frozen=True)
class TranslatePredictor(Seq2SeqPredictor):
    """A trained model from text to text."""

    options: TranslateOptions
    model: EncoderDecoder
    processor: TranslateProcessor

    @property
    def decoding(self) -> Decoding:
        """Beam search, as for the scores at the end of training."""
        return Decoding(beams=self.options.beams, length_penalty=1.0, max_length=200)

    def parse(self, text: str) -> str:
        """The line itself."""
        return text

    def read_inputs(self, file: str | Path) -> Iterator[str]:
        """The texts of a text file, or the sources of a table."""
        o = self.options
        if not is_table(file):
            return read_lines(Path(file), o.encoding)
        table = Table(file, **o.table)
        usual = {name.lower() for name in table.columns} & set(SOURCE_NAMES)
        first = None if usual else table.columns[0]
        column = table.find("source", SOURCE_NAMES, o.source_column or first)
        return (text_of(row, column) for row in table.rows(SkipLog()))

    @property
    def target(self) -> TextEncoder:
        """The units that are written."""
        return self.processor.target

    def is_empty(self, text: str) -> bool:
        """Whether there is nothing to translate."""
        return not text.strip()

    def begin(self, texts: list[str]) -> tuple[Any, Tensor | None, list[Any]]:
        """The state after the sources were read."""
        rows = [{"source": self.processor.encode_source(text)} for text in texts]
        batch = collate(rows).tensors
        state = self.model.start_state(batch["source"], batch["source_lengths"])
        known = [(text, row["source"]) for text, row in zip(texts, rows, strict=True)]
        return state, batch["source_lengths"], known

    def answer(self, known: Any, record: dict[str, Any], text: str, best: Hypothesis) -> Prediction:
        """The translation, and where it looked."""
        source, ids = known
        attention = None
        if best.attention is not None:
            rows = [symbol(self.target, i) for i in best.tokens]
            read = [symbol(self.processor.source, i) for i in ids]
            attention = (best.attention.numpy(), rows, read)
        return Prediction(text, {"source": source, **record}, attention)

    # Scores

    def score(self, examples: Examples, report: ProgressCallback | None = None) -> dict[str, Any]:
        """The loss, and how good translations by beam search are."""
        scores, cased = super().score(examples, report), self.processor.cased
        wanted = [str(example["target_text"]) for example in examples]
        written: list[str] = []
        for answer in self.predict(str(example["source_text"]) for example in examples):
            written.append(answer.text)
            if report is not None:
                report("translating", len(written), len(wanted))
        return {**scores, **text_scores(cased(written), cased(wanted))}

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """The source as it is."""
        source, target = (
            self.processor.cased([str(row[side]) for row in examples])
            for side in ("source_text", "target_text")
        )
        return {"name": "the source as it is", **text_scores(source, target)}
