"""`elman train translate`: a text in, another text out."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Shown

from elman.cells import Cell
from elman.data.core.batch import Batch
from elman.data.core.files import write_text
from elman.models.common.loss import Loss
from elman.models.common.seq2seq import EncoderDecoder
from elman.tasks.base.attention import draw_attention
from elman.tasks.base.example_task import ExampleTask
from elman.tasks.translate.options import SCHEDULES, TranslateOptions
from elman.tasks.translate.predictor import TranslatePredictor
from elman.tasks.translate.processor import TranslateProcessor
from elman.train.custom_cell import cell_class


class Translation(ExampleTask[TranslateOptions]):
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
    processor_type = TranslateProcessor
    processor: TranslateProcessor
    predictor_type = TranslatePredictor
    unit = "token"

    @classmethod
    def check(cls, options: TranslateOptions, files: list[str]) -> None:
        super().check(options, files)
        _model(options, 3, 3, 1, 2, cell_class(options.cell))

    def build(self, cell: type[Cell]) -> EncoderDecoder:
        source, target = self.processor.source, self.processor.target
        return _model(
            self.options,
            source.vocab_size,
            target.vocab_size,
            target.start_id,
            target.end_id,
            cell,
        )

    def summary(self) -> str:
        p = self.processor
        sizes = f"{p.source.vocab_size} and {p.target.vocab_size}"
        return f"{super().summary()}, {sizes} kinds of unit ({p.fact('tokenizer', str)})"

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        o = self.options
        share = SCHEDULES[o.sampling_schedule](progress) if model.training else 0.0
        return model.loss(**batch.tensors, scheduled_sampling=o.scheduled_sampling * share)

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
