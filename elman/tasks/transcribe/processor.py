"""Sounds as features, and their transcripts as units."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from elman.data.audio.samples import Sound
from elman.data.audio.sound_files import transcribed_sounds
from elman.data.core.records import RecordSource, SkipLog
from elman.data.synthetic.tones import RATE, dialled
from elman.data.text.corpus import ProgressCallback
from elman.data.text.encoder import TextEncoder
from elman.errors import DataError
from elman.models.audio.ctc import required_steps
from elman.tasks.base.audio import AudioProcessor
from elman.tasks.base.example_processor import ExampleProcessor
from elman.tasks.transcribe.options import TranscribeOptions

#: Sounds of the embedded data.
DIALLED = 1500


class TranscribeProcessor(ExampleProcessor[TranscribeOptions, Sound]):
    """What the model reads of a sound, and the units of its transcript, fitted on training data."""

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

    def fit(self, train: RecordSource[Sound], report: ProgressCallback) -> dict[str, Any]:
        o = self.options
        counts = Counter(sound.text.strip() for sound in train)
        if not counts:
            raise DataError(f"{train.about}: holds no transcribed sound; {train.skipped}")
        how: dict[str, Any] = {"min_count": o.least_count, "lower_case": o.lower_case}
        units = TextEncoder.fit(o.tokenizer, counts, vocab_size=o.vocab_size, **how)
        units.save(self.run.tokenizer_file)
        AudioProcessor.fit(train, o, report).save(self.run.folder)
        text, often = counts.most_common(1)[0]
        return {"most_frequent": text if often > 1 + len(o.speed) else ""}

    @property
    def most_frequent(self) -> str:
        """The most frequent transcript of training; "" where each came once."""
        return self.fact("most_frequent", str)

    @property
    def audio(self) -> AudioProcessor:
        """What the model reads of a sound."""
        return self.once("audio", lambda: AudioProcessor.load(self.run.folder))

    @property
    def units(self) -> TextEncoder:
        """What transcripts are made of."""
        return self.once("units", lambda: TextEncoder.load(self.run.tokenizer_file))

    def encode(self, record: Sound, source: RecordSource[Sound]) -> Mapping[str, Any] | None:
        x = self.audio(record, source.skipped, self.options.skip_bad)
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

    def without_unknown(self, log_p: torch.Tensor) -> torch.Tensor:
        """[..., units and blank], what was never seen ruled out: it cannot be written."""
        unknown = self.units.tokenizer.unknown_id
        if unknown is None:
            return log_p
        return log_p.index_fill(-1, torch.tensor(unknown, device=log_p.device), -torch.inf)

    def cased(self, texts: list[str]) -> list[str]:
        """Texts as the model would write them."""
        return [text.lower() for text in texts] if self.options.lower_case else texts
