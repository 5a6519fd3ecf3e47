"""The options of `elman train generate`."""

import math
from dataclasses import dataclass, fields

from elman.data.text.tokenizers import SENTENCE_TOKENIZERS
from elman.errors import OptionError, require_positive, unknown
from elman.settings import option
from elman.tasks.base.inputs import InputOptions

DISTRIBUTIONS = ("binary", "normal")
#: What only a model with a latent variable has, or only one with labels.
OF_LATENT = ("beta", "anneal", "free_bits", "importance")
OF_LABELS = ("skip_unknown_labels", "vectors")


@dataclass(frozen=True)
class GenerateOptions(InputOptions):
    """What `elman train generate` takes beside the files."""

    default_epochs = 60

    tokenizer: str = option("char", f"Units: {', '.join(SENTENCE_TOKENIZERS)}.", "Text")
    skip_unknown_labels: bool = option(
        False, "Leave out, and count, what has a label that training does not know.", "Data"
    )
    conditional: bool = option(False, "Write what belongs to a given label.", "Model")
    vectors: bool = option(
        False,
        "With --conditional: a label is a vector, numbers with spaces or commas between; in .npz y "
        "is [N, D].",
        "Data",
    )
    distribution: str | None = option(
        None,
        f"Of numbers: {', '.join(DISTRIBUTIONS)}. [dim]default: binary for zeros and ones and for "
        "the embedded digits[/]",
        "Model",
    )
    hidden: int = option(128, "Units in each layer.", "Model")
    latent: int = option(16, "Size of the latent variable, or of a label's vector.", "Model")
    beta: float = option(1.0, "Weight of the KL divergence in the end.", "Regularisers")
    anneal: float = option(
        0.5, "Share of the training over which that weight rises from 0.", "Regularisers"
    )
    free_bits: float = option(
        0.0, "Nats of KL in each dimension that cost nothing more.", "Regularisers"
    )
    word_dropout: float = option(
        0.3, "Share of the previous items that are hidden in training.", "Regularisers"
    )
    importance: int = option(
        64, "Draws for each sequence for a tighter bound at the end; 0: no such bound.", "Watching"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(latent=self.latent)
        for name, most in (("beta", math.inf), ("anneal", 1), ("importance", math.inf)):
            value = getattr(self, name)
            if not 0 <= value <= most or value == math.inf:
                limit = "" if most == math.inf else f" and at most {most}"
                raise OptionError(f"{name} must be 0 or above{limit}, got {value}")
        if self.distribution not in (None, *DISTRIBUTIONS):
            raise unknown("distribution", self.distribution, DISTRIBUTIONS)
        default = {f.name: f.default for f in fields(self)}
        for name in OF_LATENT if self.conditional else OF_LABELS:
            if getattr(self, name) != default[name]:
                what = "a latent variable" if self.conditional else "--conditional"
                raise OptionError(f"{name} is for a model with {what}, which this one has not")
        if self.vectors and self.skip_unknown_labels:
            raise OptionError("skip_unknown_labels: of vectors none is unknown; leave it out")
