"""Dynamic evaluation: a model that goes on learning from what it is measured on."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elman.errors import OptionError, require_positive
from elman.layers import detach
from elman.models.text.language_model import LanguageModel

EPSILON = 1e-8


@dataclass(frozen=True)
class Dynamic:
    """How a model learns from a text, segment by segment, after it has predicted each.

        theta <- theta - rate g / (s + eps) + min(decay r, 1) (theta_0 - theta)
        s = sqrt(mean of g^2 over segments of the training text),    r = s / mean(s)

    g: the gradient of a segment's mean loss. theta_0: the weights as they were trained, to which
    decay leads back. segment: tokens that are predicted before the weights change.

    Raises OptionError. Source: Krause et al. 2018, Dynamic Evaluation of Neural Sequence Models,
    eqs. 5 to 7.
    """

    rate: float = 3e-4
    decay: float = 0.003
    segment: int = 20

    def __post_init__(self) -> None:
        require_positive(segment=self.segment)
        for name in ("rate", "decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"{name} must be 0 or above, got {getattr(self, name)}")


class DynamicModel:
    """A copy of a language model, in evaluation mode, that learns: see `Dynamic`.

    training: segments of the text that it was trained on, [T + 1] ids each.
    """

    def __init__(
        self, model: LanguageModel, training: Iterable[Tensor], dynamic: Dynamic | None = None
    ) -> None:
        self.model = copy.deepcopy(model).eval()
        self.dynamic = Dynamic() if dynamic is None else dynamic
        self._weights = [p.requires_grad_() for p in self.model.parameters()]
        self._first = [p.detach().clone() for p in self._weights]
        spread = self._spread(training)
        mean = torch.cat([s.flatten() for s in spread]).mean().clamp(min=EPSILON)
        self._rate = [self.dynamic.rate / (s + EPSILON) for s in spread]
        self._decay = [(self.dynamic.decay / mean * s).clamp(max=1) for s in spread]

    def _spread(self, training: Iterable[Tensor]) -> list[Tensor]:
        """s of each weight."""
        squares = [torch.zeros_like(p) for p in self._weights]
        count = 0
        for ids in training:
            gradient, *_ = self._gradient(ids[:, None], None)
            for square, g in zip(squares, gradient, strict=True):
                square.add_(g.square())
            count += 1
        return [(square / max(count, 1)).sqrt() for square in squares]

    def _gradient(self, ids: Tensor, state: Any) -> tuple[list[Tensor], float, Any]:
        with torch.enable_grad():
            loss = self.model.loss(ids[:-1], ids[1:], state)
            found = torch.autograd.grad(loss.mean, self._weights, allow_unused=True)
        zeros = (torch.zeros_like(p) for p in self._weights)
        gradient = [z if g is None else g for g, z in zip(found, zeros, strict=True)]
        return gradient, loss.total.item(), detach(loss.state)

    @torch.no_grad()
    def loss(self, ids: Tensor, state: Any) -> tuple[float, Any]:
        """The loss of a segment [T + 1, 1], a sum in nats, and the state; then it is learnt."""
        gradient, total, state = self._gradient(ids, state)
        rates = zip(self._weights, self._first, gradient, self._rate, self._decay, strict=True)
        for weight, first, g, rate, decay in rates:
            weight.add_(decay * (first - weight) - rate * g)
        return total, state
