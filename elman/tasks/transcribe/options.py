"""The options of `elman train transcribe`."""

from dataclasses import dataclass

from elman.data.text.tokenizers import SENTENCE_TOKENIZERS
from elman.errors import OptionError, require_positive
from elman.settings import option
from elman.tasks.base.audio_options import SoundOptions
from elman.tasks.base.options import TextOptions


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
