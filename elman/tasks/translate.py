"""`elman train translate`: a text in, another text out."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as Shown

from elman.cells import Cell
from elman.data.batch import Batch
from elman.data.batches import collate
from elman.data.corpus import Report
from elman.data.dates import dates
from elman.data.examples import Examples
from elman.data.files import write_text
from elman.data.lines import read_lines
from elman.data.pairs import SOURCE_NAMES, Pair, text_pairs
from elman.data.sentences import Sentences
from elman.data.source import Skipped, Source
from elman.data.tables import Table, TableOptions, is_table
from elman.data.tokenizer import SENTENCE_TOKENIZERS
from elman.errors import OptionError, require_positive, require_probability, unknown
from elman.models.decoding import Decoding, decode
from elman.models.loss import Loss
from elman.models.seq2seq import EncoderDecoder
from elman.option import option
from elman.tasks.examples import (
    ExampleOptions,
    ExampleTask,
    TrainedOnExamples,
    batched,
    load_best,
)
from elman.tasks.pictures import draw_attention
from elman.tasks.texts import text_scores
from elman.tasks.trained import Answer
from elman.train.custom_cell import cell_argument

ATTENTIONS = ("none", "dot", "general", "additive")
#: Pairs of the embedded data.
DATES = 12_000


@dataclass(frozen=True)
class TranslateOptions(ExampleOptions):
    """What `elman train translate` takes beside the files."""

    source_column: str | None = option(
        None, "The column of sources in a table. [dim]default: source, src, input, the first[/]",
        "Data",
    )  # fmt: skip
    target_column: str | None = option(
        None, "The column of targets. [dim]default: target, tgt, output, the second[/]", "Data"
    )
    header: bool = option(True, "Whether the first line of a table names the columns.", "Data")
    delimiter: str | None = option(
        None, "Between columns. [dim]default: by the file's name[/]", "Data"
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
    min_count: int = option(1, "Units seen less often are read as one.", "Text")
    lower_case: bool = option(False, "Read and write all in lower case.", "Text")
    attention: str = option("general", f"One of {', '.join(ATTENTIONS)}.", "Model")
    input_feeding: bool = option(
        False, "What was attended to enters the next step, which then waits for it.", "Model"
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
    sampling: float = option(
        0.0, "Probability at the end that a step is fed the model's own word.", "Regularisers"
    )
    sampling_schedule: str = option(
        "linear", "How it gets there: linear, exponential, sigmoid or constant.", "Regularisers"
    )
    beams: int = option(5, "Beams of the translations that are scored at the end.", "Watching")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(min_count=self.min_count, beams=self.beams)
        require_probability(label_smoothing=self.label_smoothing)
        if not 0 <= self.sampling <= 1:
            raise OptionError(f"sampling must lie in [0, 1], got {self.sampling}")
        for name, valid in (
            ("attention", ATTENTIONS),
            ("sampling_schedule", SCHEDULES),
            ("tokenizer", ("auto", *SENTENCE_TOKENIZERS)),
        ):
            if getattr(self, name) not in valid:
                raise unknown(name.replace("_", " "), getattr(self, name), valid)

    @property
    def table(self) -> TableOptions:
        """How tables are written."""
        return {"encoding": self.encoding, "header": self.header, "delimiter": self.delimiter}


#: Shares of the highest probability, when a share p of the training is done (Bengio et al. 2015,
#: section 2.4).
SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda p: p,
    "exponential": lambda p: 1 - 0.01**p,
    "sigmoid": lambda p: 1 / (1 + math.exp(-12 * (p - 0.5))),
    "constant": lambda p: 1.0,
}


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
        _model(options, 3, 3, 1, 2, None)

    def read(self, files: list[str]) -> Source[Pair]:
        o = self.options
        if files:
            columns = {"source_column": o.source_column, "target_column": o.target_column}
            return text_pairs(files, **columns, **o.table)

        def made(skipped: Skipped) -> Iterator[Pair]:
            for number, (source, target) in enumerate(dates(DATES, seed=1)):
                yield Pair(source, target, f"date {number + 1}")

        return Source(f"{DATES:,} dates in many forms, and in ISO's", made)

    def learn(self, train: Source[Pair], report: Report) -> dict[str, Any]:
        o = self.options
        unit = o.tokenizer if o.tokenizer != "auto" else self._unit(train)
        size = o.vocab_size or {"bpe": 8000}.get(unit)
        how: dict[str, Any] = {"min_count": o.min_count, "lower_case": o.lower_case}
        for side, specials in (("source", ["end"]), ("target", ["start", "end"])):
            texts = (getattr(pair, side) for pair in train)
            Sentences.fit(unit, texts, vocab_size=size, specials=specials, **how).save(
                self._units_file(side)
            )
        return {"tokenizer": unit}

    def _unit(self, train: Source[Pair]) -> str:
        if not self.files:
            return "char"
        spaces = [" " in pair.source.strip() for pair, _ in zip(train, range(1000), strict=False)]
        return "word" if sum(spaces) > len(spaces) / 2 else "char"

    def _units_file(self, side: str) -> Path:
        return self.run.folder / f"{side}.json"

    def units(self, side: str) -> Sentences:
        """The units of "source" or "target"."""
        return self.once(side, lambda: Sentences.load(self._units_file(side)))

    def encode(self, record: Pair, source: Source[Pair]) -> Mapping[str, Any] | None:
        x = self.cut(self.units("source").encode(record.source), record, source)
        y = self.cut(self.units("target").encode(record.target), record, source)
        if x is None or y is None:
            return None
        texts = {"source_text": record.source, "target_text": record.target}
        return {"source": self._ended(x), "target": y, **texts}

    def _ended(self, x: Any) -> Any:
        end = self.units("source").end_id
        return torch.cat((torch.as_tensor(x), torch.tensor([end]))).numpy()

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

    # What it is judged by

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        o = self.options
        sampling = o.sampling * SCHEDULES[o.sampling_schedule](progress) if model.training else 0.0
        return model.loss(**batch.tensors, sampling=sampling)

    # The end

    def load(self, cell: type[Cell]) -> "Translator":
        return Translator(self.run, self.options, load_best(self, cell), self)

    def score(self, model: Any, examples: Examples, report: Report | None = None) -> dict[str, Any]:
        """The loss, and how good translations by beam search are."""
        scores = super().score(model, examples, report)
        trained = Translator(self.run, self.options, model, self)
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
            table.add_row(*(text.replace("[", "\\[") for text in texts))
            lines.append("\n".join(texts))
        console.print(table)
        folder = self.run.folder
        write_text(folder / "samples.txt", "\n\n".join(lines) + "\n")
        shown = [str(folder / "curves.png"), str(folder / "samples.txt")]
        if answers[0].attention is not None:
            draw_attention(folder / "attention.png", answers[0])
            shown.append(str(folder / "attention.png"))
        own = cell_argument(self.options.cell)
        for line in (f"see:    {', '.join(shown)}", f'more:   elman predict {folder}{own} "..."'):
            console.print(line, highlight=False, markup=False)


@dataclass(frozen=True)
class Translator(TrainedOnExamples):
    """A trained model from text to text."""

    model: EncoderDecoder
    task: Translation

    def parse(self, text: str) -> str:
        return text

    def inputs(self, file: str | Path) -> Iterator[str]:
        """The texts of a text file, or the sources of a table."""
        o = self.options
        if not is_table(file):
            return iter(list(read_lines(Path(file), o.encoding)))
        table = Table(file, **o.table)
        usual = {name.lower() for name in table.columns} & set(SOURCE_NAMES)
        first = None if usual else table.columns[0]
        column = table.find("source", SOURCE_NAMES, o.source_column or first)
        return (str(row.values[column]) for row in table.rows(Skipped()))

    def predict(
        self,
        inputs: Iterable[str],
        *,
        decoding: Decoding | None = None,
        seed: int | None = None,
        batch_size: int = 64,
    ) -> Iterator[Answer]:
        """The texts that the model writes for these.

        decoding: as `elman.models.decoding.Decoding`; beam search as at the end of training where
        not given. seed: of what is drawn.
        """
        how = decoding or Decoding(beams=self.options.beams, length_penalty=1.0, max_length=200)
        generator = torch.Generator()
        if seed is not None:
            generator.manual_seed(seed)
        for texts in batched(inputs, batch_size):
            yield from self._answers(texts, how, generator if how.draws else None)

    def _answers(
        self, texts: list[str], how: Decoding, generator: torch.Generator | None
    ) -> Iterator[Answer]:
        source, target = self.task.units("source"), self.task.units("target")
        rows = [{"source": self.task._ended(source.encode(text))} for text in texts]
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
                exclude=[target.start_id] + ([] if unseen is None else [unseen]),
                source_lengths=batch["source_lengths"],
                generator=generator,
            )
        for row, text, best in zip(rows, texts, found, strict=True):
            yield self._answer(row["source"], text, best)

    def _answer(self, ids: Any, text: str, found: list[Any]) -> Answer:
        source, target = self.task.units("source"), self.task.units("target")
        written = [target.decode(one.content) for one in found]
        several = [
            {"text": t, "score": one.score, "log_probability": one.log_probability}
            for t, one in zip(written, found, strict=True)
        ]
        record = {"source": text, **several[0]}
        if len(several) > 1:
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


def _model(
    options: TranslateOptions, source: int, target: int, start: int, end: int, cell: Any
) -> EncoderDecoder:
    from elman.train.custom_cell import cell_class

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
        **options.stack(cell or cell_class(options.cell)),
    )
