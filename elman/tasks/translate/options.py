"""The options of `elman train translate`."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from elman.data.text.tokenizers import SENTENCE_TOKENIZERS
from elman.errors import OptionError, require_positive, require_probability, unknown
from elman.settings import option
from elman.tasks.base.options import TextOptions

ATTENTIONS = ("none", "dot", "general", "additive")
#: The fraction of --scheduled-sampling reached after fraction p of the training (Bengio et al.
#: 2015, section 2.4).
SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda p: p,
    "exponential": lambda p: 1 - 0.01**p,
    "sigmoid": lambda p: 1 / (1 + math.exp(-12 * (p - 0.5))),
    "constant": lambda p: 1.0,
}


@dataclass(frozen=True)
class TranslateOptions(TextOptions):
    """What `elman train translate` takes beside the files."""

    tokenizers = ("auto", *SENTENCE_TOKENIZERS)

    source_column: str | None = option(
        None, "The column of sources in a table. [dim]default: source, src, input, the first[/]",
        "Data",
    )  # fmt: skip
    target_column: str | None = option(
        None, "The column of targets. [dim]default: target, tgt, output, the second[/]", "Data"
    )
    tokenizer: str = option(
        "auto",
        f"Units of both sides: {', '.join(SENTENCE_TOKENIZERS)}. [dim]auto: word, and char for "
        "texts without spaces and for the embedded dates[/]",
        "Text",
    )
    vocab_size: int | None = option(
        None, "At most so many units a side. [dim]default: all; bpe 8000[/]", "Text"
    )
    lower_case: bool = option(False, "Read and write all in lower case.", "Text")
    attention: str = option("general", f"One of {', '.join(ATTENTIONS)}.", "Model")
    input_feeding: bool = option(
        False, "What was attended to enters the next step too; slower.", "Model"
    )
    bidirectional: bool = option(True, "Read the source from both ends.", "Model")
    reverse_source: bool = option(False, "Read the source from its end.", "Model")
    feed_context: bool = option(
        False, "Without attention: the encoding enters every step of the decoder.", "Model"
    )
    tie: bool = option(False, "One matrix for the target's embedding and softmax.", "Model")
    label_smoothing: float = option(
        0.0, "Share of the truth that goes to all units alike.", "Regularisers"
    )
    scheduled_sampling: float = option(
        0.0,
        "How often, 0 to 1, a step is fed the model's own unit by the end of training.",
        "Regularisers",
    )
    sampling_schedule: str = option(
        "linear",
        f"How --scheduled-sampling rises: {', '.join(SCHEDULES)}.",
        "Regularisers",
    )
    beams: int = option(
        5, "Beams for the scores at the end, and of elman predict where it says none.", "Decoding"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(beams=self.beams)
        require_probability(label_smoothing=self.label_smoothing)
        if self.attention == "dot" and self.bidirectional:
            raise OptionError(
                "attention dot compares vectors of one size, and what is read from both ends has "
                "twice the decoder's: use general, or --no-bidirectional"
            )
        once = ("variational_dropout", "weight_drop")
        drawn = [name for name in once if getattr(self, name)]
        if drawn and (self.input_feeding or self.scheduled_sampling):
            raise OptionError(
                f"{drawn[0]} is drawn once a sequence, and with "
                f"{'input_feeding' if self.input_feeding else 'scheduled_sampling'} the decoder "
                "runs one step at a time: leave out one of them"
            )
        if not 0 <= self.scheduled_sampling <= 1:
            raise OptionError(
                f"scheduled_sampling must lie in [0, 1], got {self.scheduled_sampling}"
            )
        for name, valid in (
            ("attention", ATTENTIONS),
            ("sampling_schedule", SCHEDULES),
        ):
            if getattr(self, name) not in valid:
                raise unknown(name.replace("_", " "), getattr(self, name), valid)
