"""The text for what a model read of a sound: likeliest units, or beams with a language model."""

from dataclasses import dataclass
from typing import Any

import torch

from elman.data.text.encoder import TextEncoder
from elman.data.text.symbols import CharTokenizer
from elman.errors import OptionError
from elman.models.audio.ctc import Labelling, prefix_search
from elman.models.text.lm_fusion import LanguagePrior
from elman.tasks.transcribe.options import TranscribeOptions


@dataclass(frozen=True)
class TextSearch:
    """How a text is searched for.

        score(y) = ln p(y | x) + lm_weight ln p_lm(y) + length_bonus |y|

    beams: prefixes that are followed; None: 1, the likeliest unit of each step, and 16 with lm.
    lm: the folder of a run of `elman train lm` by characters. n_best: texts for each sound.
    """

    beams: int | None = None
    lm: str | None = None
    lm_weight: float = 0.5
    length_bonus: float = 0.0
    n_best: int = 1

    @classmethod
    def of(cls, options: TranscribeOptions) -> "TextSearch":
        """How texts are searched for where nothing else is asked for."""
        return cls(options.beams, options.lm, options.lm_weight, options.length_bonus)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest unit of each step is taken."""
        return self.lm is None and (self.beams or 1) == 1 and not self.length_bonus

    @property
    def width(self) -> int:
        """The prefixes that are followed."""
        return self.beams or (1 if self.lm is None else 16)

    def language(self) -> Any:
        """The language model. Raises OptionError where it is none of characters."""
        from elman.tasks import load

        assert self.lm is not None
        found = load(self.lm)
        if not isinstance(getattr(found, "tokenizer", None), CharTokenizer):
            raise OptionError(
                f"{self.lm}: is no language model of characters; train one on transcripts, a line "
                "each: elman train lm transcripts.txt"
            )
        return found

    def prior(self, units: TextEncoder) -> LanguagePrior | None:
        """The language model over these units; what it does not know is its unknown character."""
        if self.lm is None:
            return None
        found = self.language()
        tokenizer = found.tokenizer
        symbols = [units.tokenizer.symbol(i) for i in range(units.vocab_size)]
        tokens = [int(tokenizer.encode(s)[0]) if len(s) == 1 else 0 for s in symbols]
        line = int(tokenizer.encode("\n")[0])
        prompt = torch.from_numpy(tokenizer.encode(found.prompt))
        end = None if line == tokenizer.unknown_id else line
        return LanguagePrior(found.model, torch.tensor(tokens), prompt, end)

    def __call__(self, log_p: Any, prior: LanguagePrior | None) -> list[Labelling]:
        """The best labellings of [T, V + 1]."""
        return prefix_search(
            log_p, self.width, prior=prior, weight=self.lm_weight, bonus=self.length_bonus,
            n_best=self.n_best,
        )  # fmt: skip
