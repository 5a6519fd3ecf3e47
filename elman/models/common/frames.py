"""Sequences of vectors of numbers: their distributions."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.errors import OptionError, ShapeError, require_positive
from elman.models.common.emission import Items
from elman.models.common.sampling import check_sampling


class Frames(Items):
    """Vectors of F numbers, independent of each other given what came before.

    Before the first frame one of zeros is fed; the length is not told.
    """

    def __init__(self, input_size: int) -> None:
        super().__init__()
        require_positive(input_size=input_size)
        self.fed_size = self.output_size = input_size
        self.register_buffer("silence", torch.zeros(input_size), persistent=False)
        self.silence: Tensor

    def first(self, count: int) -> Tensor:
        return self.silence.expand(count, -1)

    def fed(self, items: Tensor) -> Tensor:
        if items.shape[-1] != self.fed_size:
            raise ShapeError(f"frames must be [..., {self.fed_size}], got {list(items.shape)}")
        return items

    def _check_axes(self, x: Tensor) -> None:
        if x.dim() != 3 or x.shape[-1] != self.fed_size or not x.is_floating_point():
            raise ShapeError(
                f"frames must be floating point [T, B, {self.fed_size}], got {x.dtype} "
                f"{list(x.shape)}"
            )


class Binary(Frames):
    """Frames of zeros and ones: p(x_j = 1) = sigmoid(outputs_j)."""

    def log_prob(self, outputs: Tensor, items: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(outputs, items, reduction="none").sum(dim=-1)

    def draw(
        self, outputs: Tensor, temperature: float, generator: torch.Generator | None
    ) -> Tensor:
        check_sampling(temperature, None, None)
        if temperature == 0:
            return (outputs > 0).to(outputs.dtype)
        return torch.bernoulli((outputs / temperature).sigmoid(), generator=generator)

    def _check_values(self, x: Tensor, lengths: Tensor) -> None:
        if not ((x == 0) | (x == 1)).all():
            raise ShapeError(
                "binary frames hold zeros and ones; use x.round(), or distribution='normal'"
            )


class Normal(Frames):
    """Frames of real numbers: p(x_j) = N(x_j; outputs_j, scale_j^2).

    scale: the standard deviations, one number or one a dimension; None: learned, from 1.
    """

    def __init__(self, input_size: int, scale: float | Sequence[float] | None = None) -> None:
        super().__init__(input_size)
        if scale is None:
            self.log_scale: Tensor = nn.Parameter(torch.zeros(input_size))
            return
        given = torch.as_tensor(scale, dtype=torch.get_default_dtype())
        if given.shape not in ((), (input_size,)) or not ((given > 0) & (given < math.inf)).all():
            raise OptionError(
                f"scale must be above 0, one number or {input_size} of them, got {scale!r}"
            )
        self.register_buffer("log_scale", given.log().expand(input_size).clone())

    def log_prob(self, outputs: Tensor, items: Tensor) -> Tensor:
        distance = (items - outputs) * (-self.log_scale).exp()
        each = -0.5 * distance.square() - self.log_scale - 0.5 * math.log(2 * math.pi)
        return each.sum(dim=-1)

    def draw(
        self, outputs: Tensor, temperature: float, generator: torch.Generator | None
    ) -> Tensor:
        check_sampling(temperature, None, None)
        noise = torch.empty_like(outputs).normal_(generator=generator)
        return outputs + temperature * self.log_scale.exp() * noise
