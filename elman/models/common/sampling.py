"""Drawing a token from what a model predicts."""

import math

import torch
from torch import Tensor

from elman.errors import OptionError, RunError


def seeded(seed: int | None) -> torch.Generator:
    """A generator that draws the same each time; other numbers every time where seed is None."""
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    return generator


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise OptionError for a value that no distribution can have."""
    if not 0 <= temperature < math.inf:
        raise OptionError(f"temperature must be 0 (greedy) or above, got {temperature}")
    if top_k is not None and top_k < 1:
        raise OptionError(f"top_k must be 1 or more, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise OptionError(f"top_p must lie in (0, 1], got {top_p}")


def require_finite(logits: Tensor) -> None:
    """Raise RunError for logits [..., V] that no distribution has; -inf rules an id out."""
    if not torch.isfinite(logits.amax(dim=-1)).all():
        raise RunError(
            "the model's predictions are not finite: its weights are broken; train it anew with a "
            "lower learning rate"
        )


def sample(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw one id from softmax(logits / temperature).

    logits: [..., V]   ->   [...]
    temperature: 0 takes the most likely one. top_k: only the k most likely can be drawn.
    top_p: only the fewest whose probabilities sum to at least p (Holtzman et al. 2020).
    """
    check_sampling(temperature, top_k, top_p)
    require_finite(logits)
    logits = logits.double()
    best = logits.amax(dim=-1, keepdim=True)
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = (logits - best) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        likeliest = logits.topk(top_k, dim=-1).indices
        kept = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, likeliest, True)
        logits = logits.masked_fill(~kept, -torch.inf)
    probabilities = logits.softmax(dim=-1)
    if top_p is not None and top_p < 1:
        ranked, order = probabilities.sort(dim=-1, descending=True)
        before = ranked.cumsum(dim=-1) - ranked
        ranked = ranked.masked_fill(before >= top_p, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ranked)
    flat = probabilities.reshape(-1, probabilities.shape[-1])
    drawn = torch.multinomial(flat, 1, generator=generator)
    return drawn.reshape(logits.shape[:-1])
