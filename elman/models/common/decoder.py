"""The half of a model that writes: a recurrent network over what it has written so far."""

from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor, nn

from elman.errors import OptionError, require_positive
from elman.layers import Attention, Memory
from elman.layers.dropout import Dropout
from elman.models.common.encoder import StackOptions, build_stack, embedded

#: What is drawn once a sequence, and so needs the whole of it.
ONCE = ("input_dropout", "state_dropout", "weight_drop")


class DecoderState(NamedTuple):
    """Between two steps; the batch is on axis 0 of every tensor, and () is what there is not.

    layers: of the stack. fed: (h~,) [B, A] of the step before. memory: see `elman.layers.Memory`.
    context: (v,) [B, context_size], the same at every step.
    """

    layers: Any
    fed: tuple[Tensor, ...] = ()
    memory: Memory | tuple[()] = ()
    context: tuple[Tensor, ...] = ()


class Decoder(nn.Module):
    """Tokens in, and at each step a vector from which the next token is told.

        u_t = [dropout(E w_t); v; h~_{t-1}]    v where context_size, h~ where input_feeding
        h_t = stack(u_t)
        c_t = attention(h_t, memory)
        h~_t = tanh(W [c_t; h_t])              h~_t = h_t without attention
        p(w_{t+1} | w_1 ... w_t) = softmax(V dropout(h~_t) + b)    V = E where tie_weights

    tokens: [T, B] ids   ->   h~: [T, B, A], weights of attention: [T, B, S] or None
    W: combine.weight [A, memory_size + O]   O: of h_t   A: `size`: O without attention, else
    embedding_size where tie_weights, else hidden_size.
    memory_size: of the vectors that attention looks at. attention: None, or a kind of
    `elman.layers.Attention`. options: see `StackOptions`; dropout acts on E w_t and h~_t too.

    With input_feeding attention is part of the step, so the stack runs one step at a time. Else
    it runs over all steps in one call, and attention after it, unless it is fed its own words.

    Raises OptionError.

    Sources: Luong, Pham & Manning 2015, section 3.1 and, for input feeding, 3.3; Cho et al. 2014,
    Learning Phrase Representations using RNN Encoder-Decoder (v).
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        memory_size: int = 0,
        context_size: int = 0,
        attention: str | None = None,
        input_feeding: bool = False,
        tie_weights: bool = False,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        require_positive(vocab_size=vocab_size, embedding_size=embedding_size)
        self.input_feeding = input_feeding
        self._drawn_once = [name for name in ONCE if options.get(name)]
        self._check(attention, memory_size)
        size = embedding_size if tie_weights else hidden_size
        self.size = size if attention is not None else 0
        read = embedding_size + context_size + (size if input_feeding else 0)
        self.stack = build_stack(read, hidden_size, num_layers, **options)
        self.size = self.size or self.stack.output_size
        self.attention: Attention | None = None
        if attention is not None:
            self.attention = Attention(self.stack.output_size, memory_size, attention)
            self.combine = nn.Linear(memory_size + self.stack.output_size, size, bias=False)
        self.dropout = Dropout(options.get("dropout", 0.0))
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.output = nn.Linear(self.size, vocab_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.output.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)
        if tie_weights:
            self._tie(embedding_size)

    def _check(self, attention: str | None, memory_size: int) -> None:
        if attention is None and self.input_feeding:
            raise OptionError(
                "input_feeding feeds what attention has found: choose a kind of attention"
            )
        if attention is not None and memory_size < 1:
            raise OptionError("attention needs the memory_size of the vectors that it looks at")
        if self.input_feeding:
            self._check_steps("input_feeding")

    def _check_steps(self, why: str) -> None:
        if self._drawn_once and self.training:
            raise OptionError(
                f"{why} runs the decoder one step at a time, and {', '.join(self._drawn_once)} "
                "of a layer is drawn once a sequence: set it to 0 for the decoder, or leave out "
                f"{why}"
            )

    def _tie(self, embedding_size: int) -> None:
        if embedding_size != self.size:
            raise OptionError(
                f"tie_weights: without attention the embedding ({embedding_size}) and the output "
                f"of the last layer ({self.size}) must have one size; set embedding_size to it"
            )
        self.output.weight = self.embedding.weight

    def begin(
        self, layers: Any, memory: Memory | tuple[()] = (), context: tuple[Tensor, ...] = ()
    ) -> DecoderState:
        """The state before the first step; h~ is 0 there. See `DecoderState`."""
        if not self.input_feeding:
            return DecoderState(layers, (), memory, context)
        values = Memory(*memory).values
        return DecoderState(layers, (values.new_zeros(len(values), self.size),), memory, context)

    def forward(
        self,
        tokens: Tensor,
        state: DecoderState,
        lengths: Tensor | None = None,
        scheduled_sampling: float = 0.0,
    ) -> tuple[Tensor, Tensor | None]:
        """h~ and the weights of attention at all steps.

        scheduled_sampling: the probability that a token of `tokens`, but for the first of a
        sentence, gives way to one that is drawn from what the model has just predicted, at each
        step and sentence by itself (Bengio et al. 2015, Scheduled Sampling); no gradient flows
        through the choice.
        """
        u = self.dropout(embedded(self.embedding, tokens))
        if self.by_step(scheduled_sampling):
            return self._loop(u, state, scheduled_sampling)
        context = [v.expand(len(u), -1, -1) for v in state.context]
        outputs, _ = self.stack(_beside(u, *context), state.layers, lengths=lengths)
        return self._attended(outputs, state.memory)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, DecoderState, Tensor | None]:
        """One step. tokens: [B]   ->   logits [B, V], the state, weights [B, S] or None."""
        u = self.dropout(embedded(self.embedding, tokens))
        hidden, state, weights = self._step(u, DecoderState(*state))
        return self.logits(hidden), state, weights

    def by_step(self, scheduled_sampling: float = 0.0) -> str:
        """Why `forward` runs one step at a time; "" where it runs all steps in one call."""
        if self.input_feeding:
            return "with input feeding attention is part of the step"
        return (
            "with scheduled sampling a step may read what the one before has written"
            if scheduled_sampling
            else ""
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """h~: [..., A]   ->   [..., V]"""
        return self.output(self.dropout(hidden))

    def _loop(
        self, u: Tensor, state: DecoderState, scheduled_sampling: float
    ) -> tuple[Tensor, Tensor | None]:
        if scheduled_sampling:
            self._check_steps("scheduled sampling")
        drawn = torch.rand(u.shape[:2], device=u.device) < scheduled_sampling
        hidden: list[Tensor] = []
        looked: list[Tensor | None] = []
        for t, u_t in enumerate(u.unbind()):
            given = self._own(u_t, hidden[-1], drawn[t]) if scheduled_sampling and t else u_t
            found, state, weights = self._step(given, state)
            hidden.append(found)
            looked.append(weights)
        attended = [weights for weights in looked if weights is not None]
        return torch.stack(hidden), torch.stack(attended) if attended else None

    def _own(self, u_t: Tensor, hidden: Tensor, drawn: Tensor) -> Tensor:
        """u_t: [B, E] with the model's own words in the rows that are drawn."""
        rows = drawn.nonzero()[:, 0]
        if not len(rows):
            return u_t
        with torch.no_grad():
            logits = self.output(hidden[rows])
            # The largest of logits with Gumbel noise is a draw from their softmax.
            words = (logits - torch.empty_like(logits).exponential_().log()).argmax(dim=-1)
        return u_t.index_copy(0, rows, self.dropout(self.embedding(words)).to(u_t.dtype))

    def _step(self, u: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor | None]:
        x = _beside(u, *state.context, *state.fed)
        outputs, layers = self.stack.step(x, state.layers)
        hidden, weights = self._attended(outputs, state.memory)
        fed = (hidden,) if self.input_feeding else ()
        return hidden, DecoderState(layers, fed, state.memory, state.context), weights

    def _attended(
        self, outputs: Tensor, memory: Memory | tuple[()]
    ) -> tuple[Tensor, Tensor | None]:
        """h~ and the weights, of all steps or of one."""
        if self.attention is None:
            return outputs, None
        context, weights = self.attention.attend(outputs, Memory(*memory))
        return self.combine(_beside(context, outputs)).tanh(), weights


def _beside(*vectors: Tensor) -> Tensor:
    return torch.cat(vectors, dim=-1) if len(vectors) > 1 else vectors[0]
