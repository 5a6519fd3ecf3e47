"""What tasks on sounds share: how they are heard, and how a training changes them."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from elman.data.audio.log_mel import LogMel
from elman.data.audio.samples import Sound, checked_rate
from elman.data.core.records import RecordSource, SkipLog
from elman.errors import OptionError
from elman.models.audio.augment import Augmentation
from elman.settings import option
from elman.tasks.base.options import MediaOptions


@dataclass(frozen=True)
class SoundOptions(MediaOptions):
    """What every task takes that hears sounds."""

    file_column: str | None = option(
        None, "The column of sound files. [dim]default: file, path, audio ...[/]", "Data"
    )
    sample_rate: int | None = option(
        None, "Hz that sounds are brought to. [dim]default: the first sound's[/]", "Sound"
    )
    num_mels: int = option(40, "Bands of the log mel energies.", "Sound")
    window_ms: float = option(25.0, "Sound that a frame is made of.", "Sound")
    step_ms: float = option(10.0, "From one frame to the next.", "Sound")
    frames: int = option(2, "Frames that make one step.", "Sound")
    stride: int | None = option(
        None, "Frames from one step to the next. [dim]default: --frames[/]", "Sound"
    )
    per_sound: bool = option(
        False,
        "Bring each sound's bands to mean 0, whatever microphone and room; needs the whole sound.",
        "Sound",
    )
    dynamic_range: float | None = option(
        None,
        "What is more dB than this below a sound's loudest moment is brought up to there, as other "
        "noise would; needs the whole sound. [dim]default: nothing is[/]",
        "Sound",
    )
    speed: list[float] = option(
        [], "Train on every sound at this speed too, as 0.9; may be repeated.", "Sound"
    )
    warp: float = option(
        0.0, "Stretch frequencies in training by up to this share, as other voices do.", "Sound"
    )
    gain: float = option(
        0.0, "Make sounds louder or softer in training, by up to so many dB.", "Sound"
    )
    noise: float | None = option(
        None, "Noise in training, at most so many dB below a sound. [dim]default: none[/]", "Sound"
    )
    time_mask: int = option(0, "Hide two stretches of up to so many steps in training.", "Sound")
    frequency_mask: int = option(
        0, "Hide two stretches of up to so many bands in training.", "Sound"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_rate(self.sample_rate)
        if self.dynamic_range is not None and not 0 < self.dynamic_range <= 200:
            raise OptionError(f"dynamic_range must lie in (0, 200] dB, got {self.dynamic_range}")
        for speed in self.speed:
            if not 0.25 <= speed <= 4 or speed == 1:
                raise OptionError(f"speed must lie in 0.25 ... 4 and differ from 1, got {speed}")
        self.features(self.sample_rate or 8000)
        self.augmentation  # noqa: B018  (it checks its values)

    def features(self, sample_rate: int) -> LogMel:
        """How sounds of this rate are heard."""
        stride = self.frames if self.stride is None else self.stride
        return LogMel(sample_rate, self.num_mels, self.frames, stride, self.window_ms, self.step_ms)

    @property
    def augmentation(self) -> Augmentation:
        """How training sounds are changed."""
        names = [field.name for field in fields(Augmentation)]
        return Augmentation(**{name: getattr(self, name) for name in names})


def at_speeds(source: RecordSource[Any], speeds: list[float]) -> RecordSource[Any]:
    """Every sound as it is, then at each of the speeds."""
    if not speeds:
        return source

    def read(skipped: SkipLog) -> Iterator[Sound]:
        for sound in source.read(skipped):
            for speed in (1.0, *speeds):
                yield Sound(sound.source, sound.text, sound.where, speed)

    shown = ", ".join(f"{speed:g}" for speed in speeds)
    return RecordSource(f"{source.about}, also at speed {shown}", read)
