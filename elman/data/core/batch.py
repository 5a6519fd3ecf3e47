"""What training reads, whatever it is made of."""

from typing import NamedTuple, Protocol

from torch import Tensor


class Batch(NamedTuple):
    """One batch of any task.

    tensors: by the names of the arguments that the model's ``loss`` takes. first: whether the
    sequences begin here, so that no state is carried in. texts: column -> strings, one a row.
    weight: 0 where the batch only fills a process that has nothing to do.
    """

    tensors: dict[str, Tensor]
    first: bool = True
    texts: dict[str, list[str]] = {}
    weight: float = 1.0

    @property
    def rows(self) -> int:
        """B: how many sequences there are, which may be without a step; the first tensor is
        [B] or begins with [T, B]."""
        return next(iter(self.tensors.values())).shape[:2][-1]


class Batches(Protocol):
    """The batches of a pass over the data, and which of them a step reads.

    batch_size: rows in a batch; the last of a pass may have fewer.
    """

    batch_size: int

    def __len__(self) -> int: ...

    def batch(self, step: int, rows: slice = ...) -> Batch:
        """These rows of the batch of that step: always the same ones, so that a training can go
        on from its number alone."""
        ...
