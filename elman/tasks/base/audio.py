"""From a sound to what a model reads, and to sounds among the inputs of a task."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.data.audio.log_mel import LogMel
from elman.data.audio.pcm import pcm_pieces
from elman.data.audio.samples import Samples, Sound, checked_rate, first_rate
from elman.data.audio.sound_files import labelled_sounds
from elman.data.core.files import loaded, write_json
from elman.data.core.records import RecordSource, SkipLog
from elman.data.core.scalers import StandardScaler
from elman.data.core.typed import as_type
from elman.data.text.corpus import ProgressCallback
from elman.errors import DataError, OptionError
from elman.models.audio.augment import Augmentation
from elman.models.common.targets import inside
from elman.tasks.base.audio_options import SoundOptions
from elman.tasks.base.inputs import Inputs

FILE = "audio.json"
#: In ln of an energy.
DECIBEL = math.log(10) / 10
#: Why a sound has no step.
SHORT = "sound shorter than a step"


class AudioProcessor:
    """From a sound to what a model reads: log mel energies, scaled as training sounds call for.

        e'_t = ln(exp(e_t) + exp(max e - r))      r: dynamic_range, where it is given
        x_t = (e'_t - m - mean) / deviation       m: the sound's own mean over t where per_sound

    mean, deviation: of all training sounds. Saved as audio.json.
    """

    def __init__(
        self,
        features: LogMel,
        scale: StandardScaler,
        per_sound: bool = False,
        dynamic_range: float | None = None,
    ) -> None:
        self.features, self.scale = features, scale
        self.per_sound, self.dynamic_range = per_sound, dynamic_range

    @classmethod
    def fit(
        cls, train: RecordSource[Sound], options: SoundOptions, report: ProgressCallback
    ) -> "AudioProcessor":
        """Take the rate of the first training sound where none is said, and the scale of all."""
        rate = options.sample_rate or first_rate(train)
        if rate is None:
            why = "can be read" if next(iter(train), None) else f"is there; {train.skipped}"
            raise DataError(f"{train.about}: no sound {why}, so nothing can be learnt")
        features = options.features(checked_rate(rate) or rate)
        own = options.per_sound, options.dynamic_range
        unscaled = cls(features, StandardScaler((0.0,), (1.0,)), *own)

        def heard() -> Iterator[Any]:
            for number, sound in enumerate(train):
                x = unscaled(sound, SkipLog(), options.skip_bad)
                if x is not None:
                    yield x
                if number % 64 == 0:
                    report("listening", number, 0)

        return cls(features, StandardScaler.fit(heard(), features.size), *own)

    def __call__(self, sound: Sound, skipped: SkipLog, skip_bad: bool = False) -> Any:
        """[T, F] of a sound; None where it is left out, which is counted."""
        samples = sound.samples(self.features.sample_rate, skipped, skip_bad)
        if samples is None:
            return None
        x = self.features(samples)
        if not len(x):
            skipped.add(SHORT, sound.where)
            return None
        if self.dynamic_range is not None:
            x = np.logaddexp(x, x.max() - self.dynamic_range * DECIBEL)
        return self.scale(x - x.mean(0) if self.per_sound else x)

    def changed(self, x: Tensor, lengths: Tensor, augmentation: Augmentation) -> Tensor:
        """A training batch [T, B, F] as it might have been heard."""
        if not augmentation.changes:
            return x
        x = augmentation(x, lengths, self.features, self.scale)
        if self.per_sound:  # what was changed has another mean
            count = lengths.clamp(min=1)[:, None]
            x = (x - x.sum(0) / count) * inside(lengths, x)[..., None]
        return x

    def stream(self) -> "AudioStream":
        """The same numbers while the sound comes; OptionError where they need the whole sound."""
        if self.per_sound or self.dynamic_range is not None:
            raise OptionError(
                "a sound's own mean and loudest moment are known at its end alone: train without "
                "--per-sound and --dynamic-range to answer while it comes"
            )
        return AudioStream(self)

    def save(self, folder: Path) -> None:
        """Write audio.json."""
        features, scale = self.features.to_json(), self.scale.to_json()
        own = {"per_sound": self.per_sound, "dynamic_range": self.dynamic_range}
        write_json(folder / FILE, {"features": features, "scale": scale, **own})

    @classmethod
    def load(cls, folder: Path) -> "AudioProcessor":
        """Read what `save` wrote; RunError where it is missing, damaged or foreign."""
        return loaded(folder / FILE, "audio settings", cls.from_json)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "AudioProcessor":
        """What `save` described."""
        features, scale = (
            LogMel.from_json(value["features"]),
            StandardScaler.from_json(value["scale"]),
        )
        if scale.size != features.size:
            raise ValueError(f"a scale of {scale.size} numbers for {features.size}")
        per_sound = as_type(bool, value["per_sound"], "per_sound")
        dynamic_range = as_type(float | None, value["dynamic_range"], "dynamic_range")
        return cls(features, scale, per_sound, dynamic_range)


class AudioStream:
    """What a model reads of a sound that comes in pieces; memory does not grow."""

    def __init__(self, audio: AudioProcessor) -> None:
        self.audio = audio
        self.features = audio.features.stream()

    def pieces(self, stdin: BinaryIO) -> Iterator[Samples]:
        """Samples, the time of a step at once: see `elman.data.audio.pcm.pcm_pieces`."""
        features = self.audio.features
        return pcm_pieces(stdin, features.sample_rate, features.step_seconds)

    def __call__(self, piece: Samples) -> Tensor:
        """[n, F]: the steps that these samples complete, perhaps none."""
        return torch.from_numpy(self.audio.scale(self.features.push(piece)))

    def end(self) -> None:
        """The next piece begins another sound."""
        self.features = self.audio.features.stream()


class SoundInputs(Inputs):
    """Sounds as the inputs of a task that also reads texts or series."""

    def __init__(self, audio: AudioProcessor, options: SoundOptions) -> None:
        super().__init__(scale=audio.scale)
        self.audio, self.options = audio, options

    def encode(self, value: Any) -> NDArray[Any]:
        """[T, F] of a `Sound`, the name of its file, or (samples [N], Hz); T = 0 for silence."""
        x = self.audio(as_sound(value), SkipLog(), self.options.skip_bad)
        return np.zeros((0, self.audio.features.size), np.float32) if x is None else x

    def parse(self, text: str) -> Sound:
        """The sound in the file of this name."""
        return as_sound(text)

    def read(self, file: str | Path, options: Any, **more: Any) -> Iterator[Sound]:
        """The sounds that a table names, or a folder holds; a sound itself."""
        return sounds_in(file, options)


def as_sound(given: Any) -> Sound:
    """A `Sound`, the name of its file, or (samples [N], Hz)."""
    if isinstance(given, Sound):
        return given
    if isinstance(given, str | Path):
        return Sound(Path(given), "", str(given))
    samples, rate = given
    return Sound((np.asarray(samples, dtype=np.float32), int(rate)), "", "samples")


def sounds_in(file: str | Path, options: Any) -> Iterator[Sound]:
    """The sounds that a table names, or a folder holds; a sound itself."""
    o = options
    how = {"file_column": o.file_column, "skip_bad": o.skip_bad, **o.table}
    return iter(labelled_sounds([file], labelled=False, **how))
