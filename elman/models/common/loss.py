"""What a model was wrong by, so that means over several batches or machines are exact."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A sum of losses, and how many they are.

    total: the sum, in nats where it is a likelihood. count: of what `mean` is taken over (tokens,
    sequences, frames), a number or a tensor without axes. state: what to carry on with, where the
    next batch goes on with the same sequences.
    """

    total: Tensor
    count: Tensor | int
    state: Any = None

    @property
    def mean(self) -> Tensor:
        """total / count; 0 where there was nothing."""
        if isinstance(self.count, Tensor):
            return self.total / self.count.clamp(min=1)
        return self.total / max(self.count, 1)
