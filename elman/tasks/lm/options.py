"""The options of `elman train lm`."""

from dataclasses import dataclass

from elman.data.text.byte_pairs import BPE_SAMPLE
from elman.data.text.tokenizers import check_vocab_size
from elman.errors import OptionError, require_positive, require_probability
from elman.settings import option
from elman.train.options import ModelOptions


@dataclass(frozen=True)
class LanguageModelOptions(ModelOptions):
    """What `elman train lm` takes beside the files."""

    bptt: int = option(
        64, "Steps that the gradient flows back; the state is carried on.", "Optimisation"
    )
    tokenizer: str = option("char", "The units of text: byte, char, word or bpe.", "Text")
    vocab_size: int | None = option(
        None, "At most so many units. [dim]default: all; words 20000, bpe 4096[/]", "Text"
    )
    bpe_sample: int = option(
        BPE_SAMPLE, "Characters that bpe is learnt from at most, spread over all.", "Text"
    )
    valid: list[str] = option([], "Files to validate on, instead of the end of the text.", "Data")
    valid_fraction: float = option(0.1, "The last part of the text, kept for validation.", "Data")
    tie: bool = option(False, "One matrix for embedding and softmax.", "Model")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(bptt=self.bptt, bpe_sample=self.bpe_sample)
        check_vocab_size(self.tokenizer, self.vocab_size)
        require_probability(valid_fraction=self.valid_fraction)
        if not self.valid and not self.valid_fraction > 0:
            raise OptionError("valid_fraction must be above 0, or give files with --valid")
