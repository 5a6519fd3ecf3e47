"""A running mean of the weights, which is often better than the last of them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def running_mean(model: nn.Module, share: float) -> AveragedModel:
    """A copy of a model whose weights follow it: ``update_parameters(model)`` after each step.

        a_1 = w_1,   a_{n+1} = d a_n + (1 - d) w_{n+1},   d = min(share, (1 + n) / (10 + n))

    So the first weights, which are random, are soon forgotten. Buffers are copied as they are.

    Source: Polyak & Juditsky 1992, Acceleration of Stochastic Approximation by Averaging.
    """

    def follow(means: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        kept = min(share, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(list(means), list(weights), 1 - kept)

    return AveragedModel(model, multi_avg_fn=follow).requires_grad_(False)
