"""`elman train transcribe`: a sound in, the text that is spoken in it out."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Shown

from elman.cells import Cell
from elman.data.audio.samples import Sound
from elman.data.audio.sound_files import transcribed_sounds
from elman.data.core.batch import Batch
from elman.data.core.examples import Examples
from elman.data.core.files import write_text
from elman.data.core.records import RecordSource, SkipLog
from elman.data.synthetic.tones import RATE, dialled
from elman.data.text.corpus import ProgressCallback
from elman.data.text.encoder import TextEncoder
from elman.data.text.tokenizers import SENTENCE_TOKENIZERS
from elman.errors import DataError, OptionError, require_positive
from elman.models.audio.ctc import best_paths, required_steps
from elman.models.audio.transcriber import Transcriber
from elman.models.common.loss import Loss
from elman.settings import option
from elman.tasks.base.audio import AudioProcessor
from elman.tasks.base.audio_options import SoundOptions, at_speeds
from elman.tasks.base.examples import ExampleTask, load_best
from elman.tasks.base.options import TextOptions
from elman.tasks.base.text_scores import transcript_counts, transcript_scores
from elman.tasks.transcribe.plots import draw_transcripts
from elman.tasks.transcribe.predictor import TextSearch, TranscribePredictor
from elman.train.custom_cell import cell_class

#: Sounds of the embedded data.
DIALLED = 1500


@dataclass(frozen=True)
class TranscribeOptions(TextOptions, SoundOptions):
    """What `elman train transcribe` takes beside the files."""

    text_column: str | None = option(
        None, "The column of transcripts. [dim]default: text, transcript, sentence ...[/]", "Data"
    )
    tokenizer: str = option("char", f"Units: {', '.join(SENTENCE_TOKENIZERS)}.", "Text")
    hidden: int = option(128, "Units in each layer.", "Model")
    bidirectional: bool = option(
        True, "Hear from both ends; --no-bidirectional can transcribe while one speaks.", "Model"
    )
    batch_size: int = option(16, "Sounds side by side.", "Optimisation")
    beams: int | None = option(
        None, "Texts followed side by side. [dim]default: 1, the likeliest units; 16 with --lm[/]",
        "Decoding",
    )  # fmt: skip
    lm: str | None = option(
        None, "A run of elman train lm, by characters, that says which text is likely.", "Decoding"
    )
    lm_weight: float = option(0.5, "How much --lm counts.", "Decoding")
    length_bonus: float = option(0.0, "Added to a text's score for each unit.", "Decoding")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beams is not None:
            require_positive(beams=self.beams)
        if self.embedding is not None:
            raise OptionError("embedding is the size of a unit's vector, and sounds have no units")
        if self.lm is not None and self.tokenizer != "char":
            raise OptionError("lm is for --tokenizer char: both must speak of the same units")

    @property
    def search(self) -> TextSearch:
        """How texts are searched for where nothing else is asked for."""
        return TextSearch(self.beams, self.lm, self.lm_weight, self.length_bonus)


class Transcription(ExampleTask[TranscribeOptions, Sound]):
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
    unit = "unit"
    criterion = "char_error_rate"

    # From files to a model

    @classmethod
    def check(cls, options: TranscribeOptions, files: list[str]) -> None:
        super().check(options, files)
        _model(options, 2, 1, cell_class(options.cell))
        if options.lm is not None:
            options.search.language()

    def read(self, files: list[str]) -> RecordSource[Sound]:
        o = self.options
        if files:
            columns = {"file_column": o.file_column, "text_column": o.text_column}
            return transcribed_sounds(files, **columns, skip_bad=o.skip_bad, **o.table)

        def made(skipped: SkipLog) -> Iterator[Sound]:
            calls = self.once("calls", lambda: list(dialled(DIALLED, seed=1)))
            for number, (samples, keys) in enumerate(calls, 1):
                yield Sound((samples, RATE), keys, f"call {number}")

        return RecordSource(f"{DIALLED:,} telephone numbers, dialled in noise", made)

    def sources(self) -> dict[str, RecordSource[Sound]]:
        parts = super().sources()
        return {**parts, "train": at_speeds(parts["train"], self.options.speed)}

    def learn(self, train: RecordSource[Sound], report: ProgressCallback) -> dict[str, Any]:
        o = self.options
        counts = Counter(sound.text.strip() for sound in train)
        if not counts:
            raise DataError(f"{train.about}: holds no transcribed sound; {train.skipped}")
        how: dict[str, Any] = {"min_count": o.least_count, "lower_case": o.lower_case}
        units = TextEncoder.fit(o.tokenizer, counts, vocab_size=o.vocab_size, **how)
        units.save(self.run.tokenizer_file)
        AudioProcessor.learn(train, o, report).save(self.run.folder)
        text, often = counts.most_common(1)[0]
        return {"most_frequent": text if often > 1 + len(o.speed) else ""}

    @property
    def hearing(self) -> AudioProcessor:
        """What the model reads of a sound."""
        return self.once("hearing", lambda: AudioProcessor.load(self.run.folder))

    @property
    def units(self) -> TextEncoder:
        """What transcripts are made of."""
        return self.once("units", lambda: TextEncoder.load(self.run.tokenizer_file))

    def encode(self, record: Sound, source: RecordSource[Sound]) -> Mapping[str, Any] | None:
        x = self.hearing(record, source.skipped, self.options.skip_bad)
        if x is None:
            return None
        y = self.units.encode(record.text)
        # A sound that is cut off no longer fits its transcript.
        most = self.options.max_length or len(x)
        if len(x) > most:
            source.skipped.add(f"sound longer than {most} steps", record.where)
        elif required_steps(y) > len(x):
            source.skipped.add("transcript with more units than its sound has steps", record.where)
        else:
            return {"x": x, "y": y, "text": record.text.strip()}
        return None

    def build(self, cell: type[Cell]) -> Transcriber:
        return _model(self.options, self.units.vocab_size, self.hearing.features.size, cell)

    def summary(self) -> str:
        units, f = self.units, self.hearing.features
        return (
            f"{super().summary()}, {units.vocab_size} kinds of unit ({units.tokenizer.unit}), "
            f"{f.sample_rate} Hz, a step of {f.size} numbers every {1000 * f.step_seconds:g} ms"
        )

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        t = dict(batch.tensors)
        if model.training:
            t["x"] = self.hearing.changed(t["x"], t["x_lengths"], self.options.augmentation)
        return model.loss(**t)

    def measure(self, model: Any, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        t = batch.tensors
        log_p = model(t["x"], t["x_lengths"])
        loss = model.loss_of(log_p, t["x_lengths"], t["y"], t["y_lengths"])
        sums = {"total": float(loss.total), "count": float(loss.count)}
        log_p = self.without_unknown(log_p)
        paths = best_paths(log_p, t["x_lengths"], model.blank)
        found = [self.units.decode(unit for unit, _ in path) for path in paths]
        return {**sums, **transcript_counts(found, self.cased(batch.texts["text"]))}, None

    def without_unknown(self, log_p: torch.Tensor) -> torch.Tensor:
        """[..., units and blank], what was never seen ruled out: it cannot be written."""
        unknown = self.units.tokenizer.unknown_id
        if unknown is None:
            return log_p
        return log_p.index_fill(-1, torch.tensor(unknown, device=log_p.device), -torch.inf)

    def cased(self, texts: list[str]) -> list[str]:
        """Texts as the model would write them."""
        return [text.lower() for text in texts] if self.options.lower_case else texts

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        return {**super().scores(sums), **transcript_scores(sums)}

    def monitor(self, scores: dict[str, float]) -> float:
        # Of equal errors, which are frequent on short data, the surer one.
        return super().monitor(scores) + 1e-6 * scores["loss_nats"]

    def score(
        self, model: Any, examples: Examples, report: ProgressCallback | None = None
    ) -> dict[str, Any]:
        """The loss, and how good the texts are that the search finds."""
        scores = super().score(model, examples, report)
        trained = TranscribePredictor(self.run, self.options, model, self)
        if self.options.search.greedy:
            return scores
        sums: dict[str, float] = {}
        texts = trained.texts(row["x"] for row in examples)
        for number, (row, text) in enumerate(zip(examples, texts, strict=True), 1):
            for name, value in transcript_counts([text], self.cased([str(row["text"])])).items():
                sums[name] = sums.get(name, 0.0) + value
            if report is not None:
                report("searching", number, len(examples))
        return {**scores, **transcript_scores(sums)}

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """The most frequent transcript of training; nothing at all where each came once."""
        text = self.found["most_frequent"]
        wanted = self.cased([str(row["text"]) for row in examples])
        sums = transcript_counts(self.cased([text]) * len(wanted), wanted)
        return {"name": f"always '{text}'" if text else "nothing", **transcript_scores(sums)}

    # The end

    @property
    def given(self) -> str:
        return "a.wav b.flac"

    def load(self, cell: type[Cell]) -> TranscribePredictor:
        return TranscribePredictor(self.run, self.options, load_best(self, cell), self)

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained = self.load(cell)
        examples = self.final_scores(trained, console)
        rows = [examples[i] for i in range(min(20, len(examples)))]
        table, lines, drawn = Shown("heard", "wanted"), [], []
        for row, (text, spoken) in zip(rows, trained.spoken(r["x"] for r in rows), strict=True):
            wanted = str(row["text"])
            lines.append(f"{text}\n{wanted}\n")
            drawn.append((self.hearing.scale.back(np.asarray(row["x"])), text, wanted, spoken))
        for _, text, wanted, _ in drawn[:8]:
            table.add_row(escape(text), escape(wanted))
        console.print(table)
        write_text(self.run.folder / "samples.txt", "\n".join(lines))
        draw_transcripts(self.run.folder / "transcripts.png", drawn[:4], self.hearing.features)
        self.point_to(console, "samples.txt", "transcripts.png")


def _model(options: TranscribeOptions, units: int, size: int, cell: type[Cell]) -> Transcriber:
    return Transcriber(
        units,
        input_size=size,
        hidden_size=options.hidden,
        num_layers=options.layers,
        bidirectional=options.bidirectional,
        **options.stack(cell),
    )
