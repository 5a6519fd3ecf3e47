"""The learning rate as a function of where training stands."""

import math
from collections.abc import Sequence

from elman.train.options import TrainOptions

#: Where the cosine ends, as a share of the highest rate.
LAST_SHARE = 0.01


def learning_rate(
    options: TrainOptions, step: int, epoch: int, progress: float, history: Sequence[float]
) -> float:
    """The rate of the next step.

        cosine    rate * (s + (1 - s) (1 + cos(pi p)) / 2),           s = 0.01
        halving   rate * 0.5^max(0, epoch - halve_after + 1)          (Zaremba et al. 2014)
        plateau   rate * 0.5^(validations without a new best loss)
        constant  rate
        and, while step < warmup, (step + 1) / warmup of it

    progress: p, the share of the training that is done, 0 to 1. history: validation losses.
    """
    share = 1.0
    if options.schedule == "cosine":
        share = LAST_SHARE + (1 - LAST_SHARE) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    elif options.schedule == "halving":
        share = 0.5 ** max(0, epoch - options.halve_after + 1)
    elif options.schedule == "plateau":
        share = 0.5 ** _misses(history)
    if step < options.warmup:
        share *= (step + 1) / options.warmup
    return options.rate * share


def _misses(history: Sequence[float]) -> int:
    best, misses = math.inf, 0
    for loss in history:
        misses += not loss < best
        best = min(best, loss)
    return misses


def exhausted(history: Sequence[float], patience: int | None) -> bool:
    """Whether the last ``patience`` validations brought no new best loss."""
    if patience is None or len(history) <= patience:
        return False
    return min(history[-patience:]) >= min(history[:-patience])
