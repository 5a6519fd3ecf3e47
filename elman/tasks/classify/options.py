"""The options of `elman train classify`."""

from dataclasses import dataclass

from elman.errors import require_probability, unknown
from elman.layers.pooling import KINDS as POOLINGS
from elman.settings import option
from elman.tasks.base.audio_options import SoundOptions
from elman.tasks.base.inputs import KINDS, InputOptions


@dataclass(frozen=True)
class ClassifyOptions(InputOptions, SoundOptions):
    """What `elman train classify` takes beside the files."""

    kinds = (*KINDS, "sounds")

    kind: str = option("auto", f"What the files hold: {', '.join(kinds)}.", "Data")
    skip_unknown_labels: bool = option(
        False, "Leave out, and count, what has a label that training does not know.", "Data"
    )
    min_count: int | None = option(
        None, "Units seen less often are read as the unknown one, which so is learnt. "
        "[dim]default: 2 of words, else 1[/]", "Text",
    )  # fmt: skip
    bidirectional: bool = option(True, "Read from both ends.", "Model")
    pooling: str = option("max", f"How steps become one vector: {', '.join(POOLINGS)}.", "Model")
    word_dropout: float = option(
        0.0, "Share of the units that are hidden from the model in training.", "Regularisers"
    )
    label_smoothing: float = option(
        0.0, "Share of the truth that goes to all labels alike.", "Regularisers"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_probability(word_dropout=self.word_dropout, label_smoothing=self.label_smoothing)
        if self.pooling not in POOLINGS:
            raise unknown("pooling", self.pooling, POOLINGS)

    @property
    def least_count(self) -> int:
        return self.min_count or (2 if self.tokenizer in ("word", "token") else 1)
