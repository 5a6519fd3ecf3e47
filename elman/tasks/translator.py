"""A trained translator: texts in, the texts that it writes for them out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from elman.data.batches import collate
from elman.data.labelled import text_of
from elman.data.lines import read_lines
from elman.data.pairs import SOURCE_NAMES
from elman.data.sentences import Sentences
from elman.data.source import Skipped
from elman.data.tables import Table, is_table
from elman.data.tokenizer import Ids
from elman.models.decoding import Decoding, decode
from elman.models.seq2seq import EncoderDecoder
from elman.tasks.examples import TrainedOnExamples, answered
from elman.tasks.trained import Answer

if TYPE_CHECKING:
    from elman.tasks.translate import Translation


@dataclass(frozen=True)
class Translator(TrainedOnExamples):
    """A trained model from text to text."""

    model: EncoderDecoder
    task: "Translation"

    @property
    def decoding(self) -> Decoding:
        """Beam search, as for the scores at the end of training."""
        return Decoding(beams=self.options.beams, length_penalty=1.0, max_length=200)

    def parse(self, text: str) -> str:
        """The line itself."""
        return text

    def inputs(self, file: str | Path) -> Iterator[str]:
        """The texts of a text file, or the sources of a table."""
        o = self.options
        if not is_table(file):
            return read_lines(Path(file), o.encoding)
        table = Table(file, **o.table)
        usual = {name.lower() for name in table.columns} & set(SOURCE_NAMES)
        first = None if usual else table.columns[0]
        column = table.find("source", SOURCE_NAMES, o.source_column or first)
        return (text_of(row, column) for row in table.rows(Skipped()))

    def predict(
        self,
        inputs: Iterable[str],
        *,
        decoding: Decoding | None = None,
        seed: int | None = None,
        prefix: str = "",
        batch_size: int = 64,
    ) -> Iterator[Answer]:
        """The texts that the model writes for these.

        decoding: as `elman.models.decoding.Decoding`; as `decoding` where not given. seed: of what
        is drawn; None draws others every time. prefix: what each text begins with; DataError where
        it holds what the model cannot write.
        """
        how = decoding or self.decoding
        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(seed)
        answers = partial(
            self._answers,
            how=how,
            generator=generator if how.draws else None,
            prefix=self.task.units("target").require_known(prefix),
        )
        return answered(inputs, batch_size, lambda text: not text.strip(), answers)

    def _answers(
        self, texts: list[str], how: Decoding, generator: torch.Generator | None, prefix: Ids
    ) -> Iterator[Answer]:
        source, target = self.task.units("source"), self.task.units("target")
        rows = [{"source": self.task.ended(source.encode(text))} for text in texts]
        batch = collate(rows).tensors
        unseen = target.tokenizer.unknown_id
        with torch.inference_mode():
            state = self.model.start_state(batch["source"], batch["source_lengths"])
            found = decode(
                self.model.step,
                state,
                batch_size=len(texts),
                start=target.start_id,
                end=target.end_id,
                decoding=how,
                prefix=torch.from_numpy(prefix)[:, None].expand(-1, len(texts)),
                exclude=[target.start_id] + ([] if unseen is None else [unseen]),
                source_lengths=batch["source_lengths"],
                generator=generator,
            )
        for row, text, best in zip(rows, texts, found, strict=True):
            yield self._answer(row["source"], text, best, how.n_best)

    def _answer(self, ids: Any, text: str, found: list[Any], n_best: int) -> Answer:
        source, target = self.task.units("source"), self.task.units("target")
        written = [target.decode(one.content) for one in found]
        several = [
            {"text": t, "score": one.score, "log_probability": one.log_probability}
            for t, one in zip(written, found, strict=True)
        ]
        record = {"source": text, **several[0]}
        if n_best > 1:
            record["n_best"] = several
        best, attention = found[0], None
        if best.attention is not None:
            rows = [_symbol(target, i) for i in best.tokens]
            attention = (best.attention.numpy(), rows, [_symbol(source, i) for i in ids])
        return Answer("\n".join(written), record, attention)


def _symbol(units: Sentences, index: int) -> str:
    """One unit for a picture."""
    special = {i: f"<{name}>" for name, i in units.special_ids.items()}
    return special.get(int(index)) or units.tokenizer.symbol(int(index))
