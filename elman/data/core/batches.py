"""Batches of examples: which, in which order, and padded to one length."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.data.core.batch import Batch
from elman.data.core.examples import Examples, Value
from elman.errors import OptionError, ShapeError, require_positive

#: So many batches are sorted by length together.
POOL = 100
#: In one pool lengths are sorted as if they differed by up to this part, so that few examples do
#: not fall into the same batches in every pass (the padding noise of AllenNLP, Gardner et al.
#: 2018). With P pools by a P-th of it: there the pools differ from pass to pass.
NOISE = 0.1


class Batched:
    """Examples in batches: a pure function of the step, so that a resumed run sees the same.

    Step s is batch s % len(self) of pass s // len(self), which has each example once; the last
    batch cut may be smaller. The order of a pass depends on (seed, pass) alone.

    bucket_by: a column; examples of about one length share a batch: the pass is cut into pools of
        `POOL` batches, each pool sorted by that column's length, or about (`NOISE`), and cut into
        batches, and the batches are shuffled. shuffle: False keeps the order of the examples, but
        for the sorting in pools.

    Raises OptionError.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        bucket_by: str | None = None,
    ) -> None:
        require_positive(batch_size=batch_size)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise OptionError(f"seed must be a whole number, 0 or above, got {seed!r}")
        self.examples = examples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self._sizes = None if bucket_by is None else examples.sizes(bucket_by)
        self._pass = -1
        self._order: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._batches: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """How many batches there are in a pass."""
        return (len(self.examples) + self.batch_size - 1) // self.batch_size

    def indices(self, step: int, rows: slice = slice(None)) -> NDArray[np.int64]:
        """The numbers of the examples in a step's batch, or in a process's share of it."""
        self._prepare(step // len(self))
        begin = int(self._batches[step % len(self)]) * self.batch_size
        return self._order[begin : begin + self.batch_size][rows]

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """A step's batch, or a process's share of it, which may be empty, B = 0."""
        chosen = self.indices(step, rows)
        if len(chosen):
            return collate([self.examples[i] for i in chosen.tolist()])
        return _emptied(collate([self.examples[0]]))

    def _prepare(self, number: int) -> None:
        if number == self._pass:
            return
        n, draw = len(self.examples), np.random.default_rng([self.seed, number])
        order = draw.permutation(n) if self.shuffle else np.arange(n)
        if self._sizes is not None:
            pool = POOL * self.batch_size
            noise = NOISE / (1 + n // pool) if self.shuffle else 0.0
            keys = self._sizes[order] * draw.uniform(1 - noise, 1 + noise, n)
            order = _sorted_in_pools(order, keys, pool)
        count = len(self)
        self._batches = draw.permutation(count) if self.shuffle else np.arange(count)
        self._order, self._pass = order, number


def _sorted_in_pools(order: NDArray[np.int64], keys: NDArray[Any], pool: int) -> NDArray[np.int64]:
    return np.concatenate(
        [
            order[begin : begin + pool][np.argsort(keys[begin : begin + pool], kind="stable")]
            for begin in range(0, len(order), pool)
        ]
    )


def collate(rows: Sequence[Mapping[str, Value]]) -> Batch:
    """Rows as one batch, B of them, with T the longest of a column.

        [T_b] whole numbers       ->  "x": [T, B] int64,       "x_lengths": [B] int64
        [T_b] or [T_b, F] floats  ->  "x": [T, B(, F)] float32, "x_lengths": [B] int64
        [H, W, C] uint8           ->  "x": [B, H, W, C] uint8
        a whole number            ->  "x": [B] int64
        a number                  ->  "x": [B] float32
        a string                  ->  not a tensor: `Batch.texts`

    Past the end of a row stands 0. Raises ShapeError where there is no row, or rows differ.
    """
    if not rows:
        raise ShapeError("a batch must have at least one row, got none")
    tensors: dict[str, Tensor] = {}
    texts: dict[str, list[str]] = {}
    for name, value in rows[0].items():
        try:
            values = [row[name] for row in rows]
        except KeyError as error:
            raise ShapeError(f"column '{name}' is missing in a row of the batch") from error
        if isinstance(value, np.ndarray) and value.ndim == 3 and value.dtype == np.uint8:
            tensors[name] = _stacked(name, values)
        elif isinstance(value, np.ndarray):
            tensors[name], tensors[f"{name}_lengths"] = _padded(name, values)
        elif isinstance(value, str):
            texts[name] = [str(v) for v in values]
        else:
            dtype = torch.int64 if isinstance(value, int) else torch.float32
            tensors[name] = torch.tensor(values, dtype=dtype)
    return Batch(tensors, texts=texts)


def _padded(name: str, values: Sequence[Value]) -> tuple[Tensor, Tensor]:
    arrays = [np.asarray(value) for value in values]
    first = arrays[0]
    for array in arrays:
        if array.ndim not in (1, 2) or array.shape[1:] != first.shape[1:]:
            raise ShapeError(
                f"column '{name}' must be [T] or [T, F] in all rows, got {list(first.shape)} and "
                f"{list(array.shape)}"
            )
    lengths = np.array([len(array) for array in arrays], dtype=np.int64)
    dtype = np.int64 if first.dtype.kind in "iu" else np.float32
    padded = np.zeros((int(lengths.max()), len(arrays), *first.shape[1:]), dtype=dtype)
    for b, array in enumerate(arrays):
        padded[: len(array), b] = array
    return torch.from_numpy(padded), torch.from_numpy(lengths)


def _stacked(name: str, values: Sequence[Value]) -> Tensor:
    arrays = [np.asarray(value) for value in values]
    if any(a.shape != arrays[0].shape or a.dtype != np.uint8 for a in arrays):
        raise ShapeError(f"column '{name}' must be uint8 [H, W, C] of one size in all rows")
    return torch.from_numpy(np.stack(arrays))


def _emptied(batch: Batch) -> Batch:
    """The same columns for no rows: T = 0, B = 0."""
    tensors = {}
    for name, tensor in batch.tensors.items():
        padded = f"{name}_lengths" in batch.tensors
        tensors[name] = tensor[:0, :0] if padded else tensor[:0]
    return Batch(tensors, batch.first, {name: [] for name in batch.texts})
