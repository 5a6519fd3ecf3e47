"""Options that several tasks share, each in one place."""

from dataclasses import dataclass
from typing import ClassVar

from elman.data.core.lines import checked_encoding
from elman.data.tables.table import TableOptions
from elman.data.text.byte_pairs import BPE_SAMPLE
from elman.data.text.tokenizers import SENTENCE_TOKENIZERS
from elman.errors import OptionError, require_positive, unknown
from elman.settings import option
from elman.train.options import ModelOptions


@dataclass(frozen=True)
class ExampleOptions(ModelOptions):
    """What every task on examples takes beside the files to train on."""

    valid: list[str] = option([], "Files to validate on, instead of a share.", "Data")
    test: list[str] = option([], "Files to test the best weights on, once, at the end.", "Data")
    valid_fraction: float = option(
        0.1, "Share of the examples that is kept for validation.", "Data"
    )
    encoding: str = option("utf-8", "Encoding of the files, as latin-1.", "Data")
    max_length: int | None = option(
        None, "Steps after which an example is cut off, and counted. [dim]default: never[/]", "Data"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_encoding(self.encoding)
        if not 0 < self.valid_fraction < 1 and not self.valid:
            raise OptionError("valid_fraction must lie between 0 and 1, or give files with --valid")
        if self.max_length is not None and self.max_length < 1:
            raise OptionError(f"max_length must be 1 or above, got {self.max_length}")


@dataclass(frozen=True)
class MediaOptions(ExampleOptions):
    """What every task takes that reads pictures, sounds or music, a file each."""

    skip_bad: bool = option(
        False, "Leave out, and count, files that cannot be read, instead of stopping.", "Data"
    )


@dataclass(frozen=True)
class UnitOptions(ExampleOptions):
    """What every task takes that reads words or other units of text."""

    vocab_size: int | None = option(
        None, "At most so many units. [dim]default: all; bpe 4096[/]", "Text"
    )
    min_count: int | None = option(
        None, "Units seen less often are read as one. [dim]default: 1[/]", "Text"
    )
    lower_case: bool = option(False, "Read all in lower case.", "Text")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_count is not None:
            require_positive(min_count=self.min_count)
        if self.vocab_size is not None and self.vocab_size < 2:
            raise OptionError(
                f"vocab_size must be at least 2, one is for what was never seen; got "
                f"{self.vocab_size}"
            )

    @property
    def least_count(self) -> int:
        """How often a unit is seen to be known: min_count, or what is usual."""
        return self.min_count or 1


@dataclass(frozen=True)
class TextOptions(UnitOptions):
    """What every task takes that reads texts, from tables too."""

    #: What --tokenizer can be.
    tokenizers: ClassVar[tuple[str, ...]] = tuple(SENTENCE_TOKENIZERS)

    header: bool = option(True, "Whether the first line of a table names the columns.", "Data")
    delimiter: str | None = option(
        None, "What stands between columns. [dim]default: by the file's name[/]", "Data"
    )
    tokenizer: str = option("word", f"Units: {', '.join(SENTENCE_TOKENIZERS)}.", "Text")
    bpe_sample: int = option(
        BPE_SAMPLE, "Characters that bpe is learnt from at most, spread over all.", "Text"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(bpe_sample=self.bpe_sample)
        if self.tokenizer not in self.tokenizers:
            raise unknown("tokenizer", self.tokenizer, self.tokenizers)
        if self.vocab_size is None:
            return
        if self.tokenizer == "bpe" and self.vocab_size < 256:
            raise OptionError(f"vocab_size must be at least 256 for bpe, got {self.vocab_size}")
        if self.tokenizer == "byte":
            raise OptionError("vocab_size is for the other tokenizers: there are always 256 bytes")

    @property
    def table(self) -> TableOptions:
        """How tables are written."""
        return {"encoding": self.encoding, "header": self.header, "delimiter": self.delimiter}
