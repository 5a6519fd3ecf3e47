"""The options of `elman train tag`."""

from dataclasses import dataclass

from elman.errors import require_positive, unknown
from elman.layers.pooling import KINDS as POOLINGS
from elman.settings import option
from elman.tasks.base.options import UnitOptions


@dataclass(frozen=True)
class TagOptions(UnitOptions):
    """What `elman train tag` takes beside the files."""

    word_column: int = option(1, "The column of words in CoNLL files, from 1.", "Data")
    tag_column: int | None = option(None, "The column of tags. [dim]default: the last[/]", "Data")
    skip_unknown_labels: bool = option(
        False, "Leave out, and count, what has a tag that training does not know.", "Data"
    )
    vocab_size: int | None = option(None, "At most so many words. [dim]default: all[/]", "Text")
    min_count: int | None = option(
        None,
        "Words seen less often are read as the unknown one, which so is learnt. [dim]default: 2[/]",
        "Text",
    )
    lower_case: bool = option(True, "Read words in lower case; their letters stay.", "Text")
    characters: bool = option(True, "Read the letters of each word too.", "Model")
    character_embedding: int = option(25, "Size of a letter's vector.", "Model")
    character_hidden: int = option(25, "Units, each way, that read a word's letters.", "Model")
    bidirectional: bool = option(True, "Read from both ends.", "Model")
    window: int = option(
        1, "Words that each step reads: its own and as many neighbours on each side.", "Model"
    )
    crf: bool = option(
        False, "Score neighbouring tags together: a conditional random field.", "Model"
    )
    global_context: bool = option(False, "Tell each step's tag of the whole sequence.", "Model")
    pooling: str = option(
        "max",
        "How steps become one vector, for the label and the context: " + ", ".join(POOLINGS) + ".",
        "Model",
    )
    label_weight: float = option(
        1.0, "Weight of the label's loss beside that of the tags.", "Optimisation"
    )
    word_dropout: float = option(
        0.0, "Share of the words that are hidden from the model in training.", "Regularisers"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("word_column", "character_embedding", "character_hidden")
        require_positive(**{name: getattr(self, name) for name in sizes})
        if self.tag_column is not None:
            require_positive(tag_column=self.tag_column)
        if self.pooling not in POOLINGS:
            raise unknown("pooling", self.pooling, POOLINGS)

    @property
    def least_count(self) -> int:
        return self.min_count or 2
