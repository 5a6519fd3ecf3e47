"""What a sequence is made of: how an item is fed, how likely it is, how one is drawn."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.backends.sequence import check_lengths
from elman.errors import OptionError, ShapeError, require_positive
from elman.models.common.encoder import embedded
from elman.models.common.sampling import sample


class TeacherForced(NamedTuple):
    """A batch as a network that predicts each item from those before it reads it.

    previous, targets: [T, B] or [T, B, F], defined past the end too. lengths: [B].
    """

    previous: Tensor
    targets: Tensor
    lengths: Tensor


class Items(nn.Module):
    """Items of one kind.

    fed_size: of the vector that an item enters a network as. output_size: of the vector that
    tells the next item's distribution. blank: what stands past the end of a sequence. ends: how
    many items more than its own a sequence is told by, 1 where its end is one.
    """

    fed_size: int
    output_size: int
    blank: int = 0
    ends: int = 0

    def checked(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """x with blanks past the end, whatever stood there, and lengths: [B], T where None.

        Raises ShapeError.
        """
        self._check_axes(x)
        T, B = x.shape[:2]
        if lengths is None:
            lengths = torch.full((B,), T, device=x.device)
        if lengths.shape != (B,) or lengths.dtype not in (torch.int64, torch.int32):
            raise ShapeError(
                f"lengths must be whole numbers [B] = [{B}], got {lengths.dtype} "
                f"{list(lengths.shape)}"
            )
        x = self.masked(x, lengths)
        if not torch.compiler.is_compiling():
            check_lengths(lengths, T)
            self._check_values(x, lengths)
        return x, lengths.to(x.device)

    def masked(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x: [T, B, ...] with blanks past the end of each sequence."""
        inside = torch.arange(len(x), device=x.device)[:, None] < lengths.to(x.device)
        inside = inside.view(*inside.shape, *[1] * (x.dim() - 2))
        return torch.where(inside, x, x.new_full((), self.blank))

    def teacher_forced(self, x: Tensor, lengths: Tensor | None) -> TeacherForced:
        """What is fed and what is to be told: see `TeacherForced`."""
        x, lengths = self.checked(x, lengths)
        return TeacherForced(
            torch.cat((self.first(x.shape[1])[None].to(x), x[:-1]))[: len(x)], x, lengths
        )

    def first(self, count: int) -> Tensor:
        """What is fed before the first item of ``count`` sequences: [count, ...]."""
        raise NotImplementedError

    def fed(self, items: Tensor) -> Tensor:
        """The vectors of items: [..., fed_size]."""
        raise NotImplementedError

    def log_prob(self, outputs: Tensor, items: Tensor) -> Tensor:
        """outputs: [T, B, output_size], items   ->   log p(item), [T, B] in nats."""
        raise NotImplementedError

    def draw(
        self, outputs: Tensor, temperature: float, generator: torch.Generator | None
    ) -> Tensor:
        """outputs: [N, output_size]   ->   items; temperature 0 takes the likeliest."""
        raise NotImplementedError

    def is_end(self, items: Tensor) -> Tensor:
        """Which items end their sequence: [N] bool."""
        return items.new_zeros(len(items), dtype=torch.bool)

    def _check_axes(self, x: Tensor) -> None:
        raise NotImplementedError

    def _check_values(self, x: Tensor, lengths: Tensor) -> None:
        """Raise ShapeError for a value that no item has."""


class Tokens(Items):
    """Tokens of a vocabulary: p(w) = softmax(outputs)_w.

    end: the id that is told after the last token. It stands in no sequence, so that it is also
    what is fed before the first.
    """

    ends = 1

    def __init__(self, vocab_size: int, end: int, embedding_size: int) -> None:
        super().__init__()
        require_positive(vocab_size=vocab_size, embedding_size=embedding_size)
        if isinstance(end, bool) or not isinstance(end, int) or not 0 <= end < vocab_size:
            raise OptionError(f"end must be an id in 0 ... {vocab_size - 1}, got {end!r}")
        self.fed_size, self.output_size, self.blank = embedding_size, vocab_size, end
        self.embedding = nn.Embedding(vocab_size, embedding_size)

    def teacher_forced(self, x: Tensor, lengths: Tensor | None) -> TeacherForced:
        x, lengths = self.checked(x, lengths)
        end = self.first(x.shape[1])[None].to(x)
        return TeacherForced(torch.cat((end, x)), torch.cat((x, end)), lengths + self.ends)

    def first(self, count: int) -> Tensor:
        return torch.full((count,), self.blank, device=self.embedding.weight.device)

    def fed(self, items: Tensor) -> Tensor:
        return embedded(self.embedding, items)

    def log_prob(self, outputs: Tensor, items: Tensor) -> Tensor:
        losses = F.cross_entropy(outputs.flatten(0, 1), items.flatten().long(), reduction="none")
        return -losses.view(items.shape)

    def draw(
        self, outputs: Tensor, temperature: float, generator: torch.Generator | None
    ) -> Tensor:
        return sample(outputs, temperature, generator=generator)

    def is_end(self, items: Tensor) -> Tensor:
        return items == self.blank

    def _check_axes(self, x: Tensor) -> None:
        if x.dim() != 2 or x.dtype not in (torch.int64, torch.int32):
            raise ShapeError(f"tokens must be whole numbers [T, B], got {x.dtype} {list(x.shape)}")

    def _check_values(self, x: Tensor, lengths: Tensor) -> None:
        if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < self.output_size:
            raise ShapeError(
                f"tokens must lie in 0 ... {self.output_size - 1}, got "
                f"{int(x.min())} ... {int(x.max())}"
            )
        # Blanks are ends: a sequence with one inside it has more of them than its padding.
        inside = (x != self.blank).sum(dim=0) != lengths.to(x.device)
        if inside.any():
            raise ShapeError(
                f"the end id {self.blank} stands inside the sequence b={int(inside.nonzero()[0])}: "
                "the model appends it by itself; leave it out of the data, or choose another end"
            )
