"""The half of a model that writes a whole sequence from one vector."""

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from elman.errors import OptionError, ShapeError, require_positive, unknown
from elman.layers.dropout import Dropout
from elman.models.common.emission import Items, Tokens
from elman.models.common.encoder import StackOptions, build_stack
from elman.models.common.frames import Binary, Normal
from elman.models.common.initial_state import Start


class VectorDecoderOptions(StackOptions, total=False):
    """What a model says of the decoder that writes its sequences: see `VectorDecoder`."""

    vocab_size: int | None
    end: int | None
    embedding_size: int | None
    input_size: int | None
    distribution: str | None
    scale: float | Sequence[float] | None
    hidden_size: int
    num_layers: int
    word_dropout: float


class VectorDecoder(nn.Module):
    """A sequence from a vector, one item after the other.

        s_0 = tanh(W_s v + b_s)              every part of every layer's state
        u_t = [dropout(e(x_{t-1})); v]       e: a token's embedding, a frame itself
        h_t = stack(u_t)
        p(x_t | x_1 ... x_{t-1}, v) from W dropout(h_t) + b
        log p(x | v) = sum_t log p(x_t | x_1 ... x_{t-1}, v)

    x: [T, B] ids where vocab_size is given, else [T, B, input_size]   v: [B, vector_size]
    end: the id that ends a sequence of tokens. The model appends it and begins with it; the data
    hold neither. Frames begin with zeros, and their number is not told.
    distribution: of frames, "binary" (Bernoulli) or "normal". scale: the standard deviations of
    "normal"; None: learned, one a dimension. embedding_size: hidden_size where not given.
    word_dropout: in training, the probability that a previous item is fed as zeros.
    options: see `StackOptions`; dropout acts on e(x_{t-1}) and h_t too.

    A part of the state that means nothing by itself (`Cell.zoneout_parts`: the normaliser of an
    sLSTM) starts as the cell does.

    Raises OptionError. Source: Bowman et al. 2016, Generating Sentences from a Continuous Space,
    sections 2 and 3.1.
    """

    def __init__(
        self,
        vector_size: int,
        *,
        vocab_size: int | None = None,
        end: int | None = None,
        embedding_size: int | None = None,
        input_size: int | None = None,
        distribution: str | None = None,
        scale: float | Sequence[float] | None = None,
        hidden_size: int = 256,
        num_layers: int = 1,
        word_dropout: float = 0.0,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        require_positive(vector_size=vector_size, hidden_size=hidden_size)
        if not 0 <= word_dropout <= 1:
            raise OptionError(f"word_dropout must be a probability in [0, 1], got {word_dropout}")
        if vocab_size is not None and embedding_size is None:
            embedding_size = hidden_size
        self.items = _items(
            vocab_size=vocab_size,
            end=end,
            embedding_size=embedding_size,
            input_size=input_size,
            distribution=distribution,
            scale=scale,
        )
        self.vector_size, self.word_dropout = vector_size, word_dropout
        read = self.items.fed_size + vector_size
        self.stack = build_stack(read, hidden_size, num_layers, **options)
        self.starts = Start(vector_size, self.stack)
        self.dropout = Dropout(options.get("dropout", 0.0))
        self.output = nn.Linear(self.stack.output_size, self.items.output_size)

    def forward(
        self, x: Tensor, vector: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What each item is predicted by, given those before it, and log p(x | v) in nats.

        lengths: [B], in any order, 0 allowed; None: all T   ->   outputs [T + 1, B, vocab_size]
        for tokens and their end, [T, B, input_size] for frames (logits, or means); [B]
        """
        previous, targets, lengths = self.items.teacher_forced(x, lengths)
        layers, _ = self.start_state(vector)
        u = self.dropout(self._thinned(self.items.fed(previous)))
        if len(vector) != u.shape[1]:
            raise ShapeError(
                f"one vector a sequence: {u.shape[1]} sequences, {len(vector)} vectors"
            )
        u = torch.cat((u, vector.expand(len(u), -1, -1)), dim=-1)
        hidden, _ = self.stack(u, layers, lengths=lengths)
        outputs = self.output(self.dropout(hidden))
        each = self.items.log_prob(outputs, targets)
        inside = torch.arange(len(each), device=each.device)[:, None] < lengths
        return outputs, torch.where(inside, each, 0).sum(dim=0)

    def start_state(self, vector: Tensor) -> Any:
        """The state before the first step: (the stack's, v), the batch on axis 0 of each part."""
        return self.starts(vector), vector

    def step(self, items: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One item more: [N] tokens or [N, F] frames   ->   outputs [N, ...], the new state.

        The first call is given `first` and `start_state`.
        """
        layers, vector = state
        u = torch.cat((self.dropout(self.items.fed(items)), vector), dim=-1)
        hidden, layers = self.stack.step(u, layers)
        return self.output(self.dropout(hidden)), (layers, vector)

    def first(self, count: int) -> Tensor:
        """What the first step of ``count`` sequences is given: the end id, or frames of zeros."""
        return self.items.first(count)

    @torch.no_grad()
    def generate(
        self,
        vector: Tensor,
        length: int,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Write a sequence for each vector, in evaluation mode.

        length: of frames; of tokens the most. temperature: of the softmax or the sigmoid, a
        factor on the scale of "normal"; 0 takes the likeliest item at each step.
          ->   x: [T, N, ...], lengths: [N], as `forward` reads them
        """
        require_positive(length=length)
        was_training = self.training
        self.eval()
        try:
            return self._written(vector, length, temperature, generator)
        finally:
            self.train(was_training)

    def _written(
        self, vector: Tensor, length: int, temperature: float, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        state, items = self.start_state(vector), self.first(len(vector))
        lengths = torch.zeros(len(vector), dtype=torch.long, device=vector.device)
        ended = torch.zeros_like(lengths, dtype=torch.bool)
        written: list[Tensor] = []
        while len(written) < length:
            outputs, state = self.step(items, state)
            items = self.items.draw(outputs, temperature, generator)
            ended = ended | self.items.is_end(items)
            if ended.all():
                break
            written.append(items)
            lengths += ~ended
        x = torch.stack(written) if written else items[None][:0]
        return self.items.masked(x, lengths), lengths

    def _thinned(self, u: Tensor) -> Tensor:
        """u: [T, B, E] with zeros in place of some items; that a sequence begins is always seen."""
        if not self.training or not self.word_dropout:
            return u
        kept = torch.rand(u.shape[:2], device=u.device) >= self.word_dropout
        kept[:1] = True
        return u * kept[..., None]


def _items(
    *,
    vocab_size: int | None = None,
    end: int | None = None,
    embedding_size: int | None = None,
    input_size: int | None = None,
    distribution: str | None = None,
    scale: float | Sequence[float] | None = None,
) -> Items:
    """`Tokens` where vocab_size is given, else `Binary` or `Normal` frames; OptionError."""
    if (vocab_size is None) == (input_size is None):
        raise OptionError("give either vocab_size, for tokens, or input_size, for frames")
    if vocab_size is not None:
        if distribution is not None or scale is not None:
            raise OptionError("distribution and scale are of frames; tokens have a softmax")
        if end is None or embedding_size is None:
            raise OptionError("tokens need end, the id that ends a sequence, and embedding_size")
        return Tokens(vocab_size, end, embedding_size)
    assert input_size is not None
    if end is not None or embedding_size is not None:
        raise OptionError("end and embedding_size are of tokens; frames have neither")
    if distribution not in ("binary", "normal"):
        raise unknown("distribution", distribution, ("binary", "normal"))
    if distribution == "normal":
        return Normal(input_size, scale)
    if scale is not None:
        raise OptionError("scale is of distribution='normal'; binary frames have none")
    return Binary(input_size)
