"""`elman train translate`: a text in, another text out."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Shown

from elman.cells import Cell
from elman.data.core.batch import Batch
from elman.data.core.examples import Examples
from elman.data.core.files import write_text
from elman.data.core.records import RecordSource, SkipLog
from elman.data.synthetic.dates import dates
from elman.data.text.corpus import ProgressCallback
from elman.data.text.encoder import TextEncoder
from elman.data.text.pairs import Pair, text_pairs
from elman.data.text.tokenizers import SENTENCE_TOKENIZERS
from elman.errors import OptionError, require_positive, require_probability, unknown
from elman.models.common.loss import Loss
from elman.models.common.seq2seq import EncoderDecoder
from elman.settings import option
from elman.tasks.base.attention import draw_attention
from elman.tasks.base.examples import ExampleTask, load_best
from elman.tasks.base.options import TextOptions
from elman.tasks.base.text_scores import text_scores
from elman.tasks.translate.predictor import TranslatePredictor
from elman.train.custom_cell import cell_class

ATTENTIONS = ("none", "dot", "general", "additive")
#: Pairs of the embedded data.
DATES = 12_000
#: Shares of the highest probability, when a share p of the training is done (Bengio et al. 2015,
#: section 2.4).
SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda p: p,
    "exponential": lambda p: 1 - 0.01**p,
    "sigmoid": lambda p: 1 / (1 + math.exp(-12 * (p - 0.5))),
    "constant": lambda p: 1.0,
}


@dataclass(frozen=True)
class TranslateOptions(TextOptions):
    """What `elman train translate` takes beside the files."""

    tokenizers = ("auto", *SENTENCE_TOKENIZERS)

    source_column: str | None = option(
        None, "The column of sources in a table. [dim]default: source, src, input, the first[/]",
        "Data",
    )  # fmt: skip
    target_column: str | None = option(
        None, "The column of targets. [dim]default: target, tgt, output, the second[/]", "Data"
    )
    tokenizer: str = option(
        "auto",
        f"Units of both sides: {', '.join(SENTENCE_TOKENIZERS)}. [dim]auto: word, and char for "
        "texts without spaces and for the embedded dates[/]",
        "Text",
    )
    vocab_size: int | None = option(
        None, "At most so many units a side. [dim]default: all; bpe 8000[/]", "Text"
    )
    lower_case: bool = option(False, "Read and write all in lower case.", "Text")
    attention: str = option("general", f"One of {', '.join(ATTENTIONS)}.", "Model")
    input_feeding: bool = option(
        False, "What was attended to enters the next step too; slower.", "Model"
    )
    bidirectional: bool = option(True, "Read the source from both ends.", "Model")
    reverse_source: bool = option(False, "Read the source from its end.", "Model")
    feed_context: bool = option(
        False, "Without attention: the encoding enters every step of the decoder.", "Model"
    )
    tie: bool = option(False, "One matrix for the target's embedding and softmax.", "Model")
    label_smoothing: float = option(
        0.0, "Share of the truth that goes to all units alike.", "Regularisers"
    )
    scheduled_sampling: float = option(
        0.0,
        "How often, 0 to 1, a step is fed the model's own unit by the end of training.",
        "Regularisers",
    )
    sampling_schedule: str = option(
        "linear",
        f"How --scheduled-sampling rises: {', '.join(SCHEDULES)}.",
        "Regularisers",
    )
    beams: int = option(
        5, "Beams for the scores at the end, and of elman predict where it says none.", "Decoding"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(beams=self.beams)
        require_probability(label_smoothing=self.label_smoothing)
        if self.attention == "dot" and self.bidirectional:
            raise OptionError(
                "attention dot compares vectors of one size, and what is read from both ends has "
                "twice the decoder's: use general, or --no-bidirectional"
            )
        once = ("variational_dropout", "weight_drop")
        drawn = [name for name in once if getattr(self, name)]
        if drawn and (self.input_feeding or self.scheduled_sampling):
            raise OptionError(
                f"{drawn[0]} is drawn once a sequence, and with "
                f"{'input_feeding' if self.input_feeding else 'scheduled_sampling'} the decoder "
                "runs one step at a time: leave out one of them"
            )
        if not 0 <= self.scheduled_sampling <= 1:
            raise OptionError(
                f"scheduled_sampling must lie in [0, 1], got {self.scheduled_sampling}"
            )
        for name, valid in (
            ("attention", ATTENTIONS),
            ("sampling_schedule", SCHEDULES),
        ):
            if getattr(self, name) not in valid:
                raise unknown(name.replace("_", " "), getattr(self, name), valid)


class Translation(ExampleTask[TranslateOptions, Pair]):
    """Pairs of texts, the second made from the first."""

    name = "translate"
    title = "a translator"
    help = """Train a model that turns one text into another: languages, dates, names, any string.

    [bold]elman train translate[/]                                  dates in many forms to ISO
    [bold]elman train translate train.de train.en[/]                line by line
    [bold]elman train translate pairs.tsv --attention additive --input-feeding[/]
    [bold]elman train translate t.de t.en --valid v.de --valid v.en[/]
    """
    files_help = "Two text files, or one CSV, TSV, JSONL, parquet. [dim]default: dates[/]"
    options_type = TranslateOptions
    unit = "token"
    bucket_by = "source"

    # From files to a model

    @classmethod
    def check(cls, options: TranslateOptions, files: list[str]) -> None:
        super().check(options, files)
        _model(options, 3, 3, 1, 2, cell_class(options.cell))

    def read(self, files: list[str]) -> RecordSource[Pair]:
        o = self.options
        if files:
            columns = {"source_column": o.source_column, "target_column": o.target_column}
            return text_pairs(files, **columns, **o.table)

        def made(skipped: SkipLog) -> Iterator[Pair]:
            for number, (source, target) in enumerate(dates(DATES, seed=1)):
                yield Pair(source, target, f"date {number + 1}")

        return RecordSource(f"{DATES:,} dates in many forms, and in ISO's", made)

    def learn(self, train: RecordSource[Pair], report: ProgressCallback) -> dict[str, Any]:
        o = self.options
        unit = o.tokenizer if o.tokenizer != "auto" else self._unit(train)
        size = o.vocab_size or {"bpe": 8000}.get(unit)
        how: dict[str, Any] = {"min_count": o.least_count, "lower_case": o.lower_case}
        how["bpe_sample"] = o.bpe_sample
        for side, specials in (("source", ["end"]), ("target", ["start", "end"])):
            texts = (getattr(pair, side) for pair in train)
            TextEncoder.fit(unit, texts, vocab_size=size, specials=specials, **how).save(
                self._units_file(side)
            )
        return {"tokenizer": unit}

    def _unit(self, train: RecordSource[Pair]) -> str:
        if not self.files:
            return "char"
        spaces = [" " in pair.source.strip() for pair, _ in zip(train, range(1000), strict=False)]
        return "word" if sum(spaces) > len(spaces) / 2 else "char"

    def _units_file(self, side: str) -> Path:
        return self.run.folder / f"{side}.json"

    def units(self, side: str) -> TextEncoder:
        """The units of "source" or "target"."""
        return self.once(side, lambda: TextEncoder.load(self._units_file(side)))

    def encode(self, record: Pair, source: RecordSource[Pair]) -> Mapping[str, Any] | None:
        x = self.cut(self.units("source").encode(record.source), record, source)
        y = self.cut(self.units("target").encode(record.target), record, source)
        if x is None or y is None:
            return None
        texts = {"source_text": record.source, "target_text": record.target}
        return {"source": self.ended(x), "target": y, **texts}

    def ended(self, x: NDArray[Any]) -> NDArray[Any]:
        """The units of a source with the end that the model reads."""
        return np.append(x, self.units("source").end_id)

    def build(self, cell: type[Cell]) -> EncoderDecoder:
        source, target = self.units("source"), self.units("target")
        return _model(
            self.options,
            source.vocab_size,
            target.vocab_size,
            target.start_id,
            target.end_id,
            cell,
        )

    def summary(self) -> str:
        sizes = " and ".join(str(self.units(s).vocab_size) for s in ("source", "target"))
        return f"{super().summary()}, {sizes} kinds of unit ({self.found['tokenizer']})"

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        o = self.options
        share = SCHEDULES[o.sampling_schedule](progress) if model.training else 0.0
        return model.loss(**batch.tensors, scheduled_sampling=o.scheduled_sampling * share)

    # The end

    def load(self, cell: type[Cell]) -> TranslatePredictor:
        return TranslatePredictor(self.run, self.options, load_best(self, cell), self)

    def score(
        self, model: Any, examples: Examples, report: ProgressCallback | None = None
    ) -> dict[str, Any]:
        """The loss, and how good translations by beam search are."""
        scores = super().score(model, examples, report)
        trained = TranslatePredictor(self.run, self.options, model, self)
        wanted = [str(example["target_text"]) for example in examples]
        found: list[str] = []
        for answer in trained.predict(str(example["source_text"]) for example in examples):
            found.append(answer.text)
            if report is not None:
                report("translating", len(found), len(wanted))
        return {**scores, **text_scores(self._cased(found), self._cased(wanted))}

    def _cased(self, texts: list[str]) -> list[str]:
        return [text.lower() for text in texts] if self.options.lower_case else texts

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """The source as it is."""
        source, target = (
            self._cased([str(row[side]) for row in examples])
            for side in ("source_text", "target_text")
        )
        return {"name": "the source as it is", **text_scores(source, target)}

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained = self.load(cell)
        examples = self.final_scores(trained, console)
        some = [examples[i] for i in range(min(10, len(examples)))]
        sources = [str(row["source_text"]) for row in some]
        answers = list(trained.predict(sources))
        table = Shown("source", "written", "wanted")
        lines: list[str] = []
        for row, answer in zip(some, answers, strict=True):
            texts = [str(row["source_text"]), answer.text, str(row["target_text"])]
            table.add_row(*map(escape, texts))
            lines.append("\n".join(texts))
        console.print(table)
        write_text(self.run.folder / "samples.txt", "\n\n".join(lines) + "\n")
        shown = ["samples.txt"]
        if answers[0].attention is not None:
            draw_attention(self.run.folder / "attention.png", answers[0])
            shown.append("attention.png")
        self.point_to(console, *shown)


def _model(
    options: TranslateOptions, source: int, target: int, start: int, end: int, cell: type[Cell]
) -> EncoderDecoder:
    return EncoderDecoder(
        source,
        target,
        start=start,
        end=end,
        embedding_size=options.embedding,
        hidden_size=options.hidden,
        num_layers=options.layers,
        bidirectional=options.bidirectional,
        attention=None if options.attention == "none" else options.attention,
        input_feeding=options.input_feeding,
        feed_context=options.feed_context,
        reverse_source=options.reverse_source,
        tie_weights=options.tie,
        label_smoothing=options.label_smoothing,
        **options.stack(cell),
    )
