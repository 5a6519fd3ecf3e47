"""The options of `elman train music`."""

from dataclasses import dataclass

from elman.data.music.midi import KEYS
from elman.errors import OptionError, require_positive
from elman.settings import option
from elman.tasks.base.options import MediaOptions


@dataclass(frozen=True)
class MusicOptions(MediaOptions):
    """What `elman train music` takes beside the files."""

    default_epochs = 40

    steps_per_beat: int | None = option(
        None, "Frames of a beat, to which MIDI is rounded. [dim]default: 4; made pieces 2[/]",
        "Data",
    )  # fmt: skip
    tempo: float = option(120.0, "Beats a minute of the MIDI files that it writes.", "Data")
    batch_size: int = option(8, "Pieces side by side.", "Optimisation")
    learning_rate: float | None = option(
        None, "The highest rate. [dim]default: 0.008 for adamw, 1.0 for sgd[/]", "Optimisation"
    )
    hidden: int = option(128, "Units in each layer.", "Model")
    dropout: float = option(0.2, "On frames, between layers, on outputs.", "Regularisers")
    transpose: int = option(
        0, "In training, move each piece by up to so many semitones up or down.", "Regularisers"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps_per_beat is not None:
            require_positive(steps_per_beat=self.steps_per_beat)
        if not 4 <= self.tempo <= 1000:
            raise OptionError(f"tempo must lie in 4 ... 1000 beats a minute, got {self.tempo}")
        if not 0 <= self.transpose < KEYS:
            raise OptionError(f"transpose must lie in 0 ... {KEYS - 1}, got {self.transpose}")

    @property
    def rate(self) -> float:
        given = self.learning_rate is not None or self.optimizer != "adamw"
        return super().rate if given else 0.008
