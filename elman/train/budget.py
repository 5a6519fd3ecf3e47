"""A limit on what a model is built with, where its sizes stand in a file that may be damaged."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Budget(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A block that may make no more than a model of these weights calls for, many times over.

    A number of units or of layers that is a thousand times too large would else take all memory,
    or hours, before its weights turn out not to fit. Raises ValueError.
    """

    #: How much more may be made: some is dropped again, and a model may be small.
    TIMES, NUMBERS, TENSORS = 16, 1 << 22, 256

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = self.TIMES * sum(t.numel() for t in weights.values()) + self.NUMBERS
        self.tensors = self.TIMES * len(weights) + self.TENSORS

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        # What makes a tensor of nothing takes its sizes first.
        if args and isinstance(args[0], list | tuple) and all(type(n) is int for n in args[0]):
            self.numbers -= prod(args[0])
            self.tensors -= 1
            if self.numbers < 0 or self.tensors < 0:
                raise ValueError("the model would be far larger than its weights")
        return func(*args, **(kwargs or {}))
