"""What to look for, and what was found."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from elman.errors import OptionError, require_positive
from elman.models.common.sampling import check_sampling
from elman.settings import option


@dataclass(frozen=True)
class Decoding:
    """How sequences are written: greedy (the default), drawn, or searched for with beams.

        score(Y) = log P(Y) / ((5 + |Y|) / 6)^length_penalty
                 + coverage_penalty * sum_i log min(sum_j p_ij, 1)

    Y: the tokens, forced ones and the end among them; p_ij: the attention of token j to source
    position i.

    beams: how many unfinished sequences are kept; 1 takes the likeliest token each time.
    n_best: sequences a sentence: the best of the beams, or independent draws.
    temperature: 0 draws nothing; above, each token is drawn. top_k, top_p: see
        `elman.models.common.sampling.sample`.
    max_length: tokens at most, the end among them; a sequence that reaches it without an end is
        taken as it is. min_length: tokens before the end is allowed.
    no_repeat_ngram: n: no n tokens in a row are written twice; 0 allows all.

    Raises OptionError. Source: Wu et al. 2016 for the score.
    """

    beams: int = option(
        1, "Unfinished texts kept at each step; 1: the likeliest unit each time.", "Decoding"
    )
    n_best: int = option(1, "Texts for each input, best first.", "Decoding")
    temperature: float = option(0.0, "Above 0: draw each unit; 1: as learnt.", "Decoding")
    top_k: int | None = option(None, "Draw only from the k likeliest.", "Decoding")
    top_p: float | None = option(None, "Draw only from the likeliest that sum to p.", "Decoding")
    max_length: int = option(100, "Units at most.", "Decoding")
    min_length: int = option(0, "Units before the end is allowed.", "Decoding")
    length_penalty: float = option(
        0.0, "Favours long texts: 0 none, 1 the mean over units, about.", "Decoding"
    )
    coverage_penalty: float = option(
        0.0, "Against parts of the input that no unit looked at.", "Decoding"
    )
    no_repeat_ngram: int = option(0, "No n units in a row twice; 0 allows all.", "Decoding")

    def __post_init__(self) -> None:
        require_positive(beams=self.beams, n_best=self.n_best, max_length=self.max_length)
        _require_whole(min_length=self.min_length, no_repeat_ngram=self.no_repeat_ngram)
        _require_weight(length_penalty=self.length_penalty, coverage_penalty=self.coverage_penalty)
        check_sampling(self.temperature, self.top_k, self.top_p)
        if self.min_length > self.max_length:
            raise OptionError(
                f"min_length ({self.min_length}) must not exceed max_length ({self.max_length})"
            )
        self._check_one_way()

    def _check_one_way(self) -> None:
        if self.draws and self.beams > 1:
            raise OptionError(
                f"beams ({self.beams}) search and temperature ({self.temperature}) draws: give "
                "beams=1 or temperature=0"
            )
        if not self.draws and (self.top_k is not None or self.top_p is not None):
            raise OptionError(
                "top_k and top_p limit what is drawn, and temperature=0 draws nothing: raise "
                "temperature or leave them out"
            )
        if not self.draws and self.n_best > self.beams:
            raise OptionError(
                f"n_best ({self.n_best}) must not exceed beams ({self.beams}); raise beams, or "
                "temperature for independent draws"
            )

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn."""
        return self.temperature > 0

    def score(self, log_probability: float, length: int, coverage: float = 0.0) -> float:
        """What sequences are ranked by; coverage: sum_i log min(sum_j p_ij, 1)."""
        normaliser = ((5 + length) / 6) ** self.length_penalty
        return log_probability / normaliser + self.coverage_penalty * coverage

    def bound(self, log_probability: float) -> float:
        """What no continuation of an unfinished sequence can exceed in score.

        A continuation is no likelier than what it continues, and its log probability, at most 0,
        is divided by most where it is longest. Coverage adds at most 0.
        """
        return self.score(log_probability, self.max_length)


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A sequence that was written.

    tokens: what follows the start, forced tokens and the end included. ended: whether the last
    is the end; otherwise the length ran out. score: see `Decoding`. log_probabilities: in nats, of
    each token among the whole vocabulary as the model has it, whatever the temperature and what
    was ruled out. log_probability: their sum. attention: [len(tokens), S] on the CPU, where the
    step tells it.
    """

    tokens: list[int]
    score: float
    log_probability: float
    log_probabilities: list[float]
    ended: bool
    attention: Tensor | None = None

    @property
    def content(self) -> list[int]:
        """The tokens without the end."""
        return self.tokens[:-1] if self.ended else self.tokens


def _require_whole(**values: Any) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise OptionError(f"{name} must be a whole number, 0 or above, got {value!r}")


def _require_weight(**values: Any) -> None:
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise OptionError(f"{name} must be a finite number, 0 or above, got {value!r}")
