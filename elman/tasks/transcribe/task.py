"""`elman train transcribe`: a sound in, the text that is spoken in it out."""

from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Shown

from elman.cells import Cell
from elman.data.audio.samples import Sound
from elman.data.core.batch import Batch
from elman.data.core.files import write_text
from elman.data.core.records import RecordSource
from elman.models.audio.transcriber import Transcriber
from elman.models.common.loss import Loss
from elman.tasks.base.audio_options import at_speeds
from elman.tasks.base.example_task import ExampleTask
from elman.tasks.transcribe.options import TranscribeOptions
from elman.tasks.transcribe.plots import draw_transcripts
from elman.tasks.transcribe.predictor import TranscribePredictor
from elman.tasks.transcribe.processor import TranscribeProcessor
from elman.tasks.transcribe.search import TextSearch
from elman.train.custom_cell import cell_class


class Transcription(ExampleTask[TranscribeOptions]):
    """Sounds, and what is spoken in each, without saying when."""

    name = "transcribe"
    title = "a transcriber"
    help = """Train a model that writes down what it hears: speech, tones, Morse, any sound.

    [bold]elman train transcribe[/]                                telephone numbers being dialled
    [bold]elman train transcribe LJSpeech-1.1[/]                   a folder with its table
    [bold]elman train transcribe train.tsv --valid dev.tsv[/]      files and transcripts
    [bold]elman train transcribe LibriSpeech/train-clean-100 --no-bidirectional[/]
    """
    files_help = (
        "A table of files and transcripts, or a folder with one, with *.trans.txt, or with a .txt "
        "beside each sound. [dim]default: dialled telephone numbers[/]"
    )
    options_type = TranscribeOptions
    processor_type = TranscribeProcessor
    processor: TranscribeProcessor
    predictor_type = TranscribePredictor
    unit = "unit"
    criterion = "char_error_rate"

    @classmethod
    def check(cls, options: TranscribeOptions, files: list[str]) -> None:
        super().check(options, files)
        _model(options, 2, 1, cell_class(options.cell))
        if options.lm is not None:
            TextSearch.of(options).language()

    def sources(self) -> dict[str, RecordSource[Sound]]:
        parts = super().sources()
        return {**parts, "train": at_speeds(parts["train"], self.options.speed)}

    def build(self, cell: type[Cell]) -> Transcriber:
        p = self.processor
        return _model(self.options, p.units.vocab_size, p.audio.features.size, cell)

    def summary(self) -> str:
        units, f = self.processor.units, self.processor.audio.features
        return (
            f"{super().summary()}, {units.vocab_size} kinds of unit ({units.tokenizer.unit}), "
            f"{f.sample_rate} Hz, a step of {f.size} numbers every {1000 * f.step_seconds:g} ms"
        )

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        t = dict(batch.tensors)
        if model.training:
            audio, augmentation = self.processor.audio, self.options.augmentation
            t["x"] = audio.changed(t["x"], t["x_lengths"], augmentation)
        return model.loss(**t)

    def monitor(self, scores: dict[str, float]) -> float:
        # Of equal errors, which are frequent on short data, the surer one.
        return super().monitor(scores) + 1e-6 * scores["loss_nats"]

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained, audio = self.load(cell), self.processor.audio
        examples = self.final_scores(trained, console)
        rows = [examples[i] for i in range(min(20, len(examples)))]
        table, lines, drawn = Shown("heard", "wanted"), [], []
        for row, (text, spoken) in zip(rows, trained.spoken(r["x"] for r in rows), strict=True):
            wanted = str(row["text"])
            lines.append(f"{text}\n{wanted}\n")
            drawn.append((audio.scale.back(np.asarray(row["x"])), text, wanted, spoken))
        for _, text, wanted, _ in drawn[:8]:
            table.add_row(escape(text), escape(wanted))
        console.print(table)
        write_text(self.run.folder / "samples.txt", "\n".join(lines))
        draw_transcripts(self.run.folder / "transcripts.png", drawn[:4], audio.features)
        self.point_to(console, "samples.txt", "transcripts.png", uses=["predict RUN a.wav b.flac"])


def _model(options: TranscribeOptions, units: int, size: int, cell: type[Cell]) -> Transcriber:
    return Transcriber(
        units,
        input_size=size,
        hidden_size=options.hidden,
        num_layers=options.layers,
        bidirectional=options.bidirectional,
        **options.stack(cell),
    )
