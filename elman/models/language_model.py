"""The recurrent language model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.cells import Cell, cell_named
from elman.errors import OptionError, ShapeError, require_positive, require_probability
from elman.layers import Recurrent, Stack
from elman.models.sampling import sample

CellClass = Callable[..., Cell]


class LanguageModel(nn.Module):
    """Predicts the next token of a text from all before it.

        u_t = stack(dropout(E w_t), state)
        p(w_{t+1} | w_1 ... w_t) = softmax(V dropout(u_t) + b)        V = E where tie_weights

    tokens: [T, B] ids (or [T])   ->   logits: [T, B, vocab_size], state
    cell: a built-in cell's name, or a class built as cell(input_size, hidden_size, **cell_options).
    embedding_size: hidden_size where not given. dropout: of the embeddings, between layers and
    of the outputs. input_dropout, state_dropout, zoneout, weight_drop: of each layer, see
    `elman.layers.Regularisers`. residual, layer_norm: see `elman.Stack`.

    Raises OptionError. Source: Mikolov et al. 2010; with dropout Zaremba et al. 2014; tied
    weights Press & Wolf 2017.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 256,
        num_layers: int = 1,
        *,
        cell: str | CellClass = "lstm",
        cell_options: Mapping[str, Any] | None = None,
        embedding_size: int | None = None,
        tie_weights: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
        zoneout: float | Mapping[str, float] = 0.0,
        weight_drop: float = 0.0,
        residual: bool = False,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        embedding_size = hidden_size if embedding_size is None else embedding_size
        require_positive(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            embedding_size=embedding_size,
        )
        require_probability(dropout=dropout)
        build = cell_named(cell) if isinstance(cell, str) else cell
        layers: list[Recurrent] = []
        for _ in range(num_layers):
            below = layers[-1].output_size if layers else embedding_size
            layers.append(
                Recurrent(
                    _built(build, below, hidden_size, cell_options or {}),
                    input_dropout=input_dropout,
                    state_dropout=state_dropout,
                    zoneout=zoneout,
                    weight_drop=weight_drop,
                )
            )
        self.vocab_size = vocab_size
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.stack = Stack(layers, dropout=dropout, residual=residual, layer_norm=layer_norm)
        self.output = nn.Linear(self.stack.output_size, vocab_size)
        nn.init.uniform_(self.output.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)
        if tie_weights:
            self._tie(embedding_size)

    def _tie(self, embedding_size: int) -> None:
        if embedding_size != self.stack.output_size:
            raise OptionError(
                f"tie_weights: the embedding ({embedding_size}) and the output of the last layer "
                f"({self.stack.output_size}) must have one size; set embedding_size to it"
            )
        # One matrix for both: as small as a softmax wants it.
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: Any = None, **sequence: Any) -> tuple[Tensor, Any]:
        """Logits of the token after each; ``sequence``: lengths, reset, truncate, as any layer."""
        outputs, state = self.stack(self.dropout(self._embedded(tokens)), state, **sequence)
        return self.output(self.dropout(outputs)), state

    def _embedded(self, tokens: Tensor) -> Tensor:
        if tokens.dim() not in (1, 2) or tokens.dtype not in (torch.int64, torch.int32):
            raise ShapeError(
                f"LanguageModel: tokens must be whole numbers [T, B] or [T], got {tokens.dtype} "
                f"{list(tokens.shape)}"
            )
        try:
            return self.embedding(tokens)
        except IndexError as error:
            raise ShapeError(
                f"LanguageModel: tokens must lie in 0 ... {self.vocab_size - 1}, got "
                f"{int(tokens.min())} ... {int(tokens.max())}"
            ) from error

    def loss(self, tokens: Tensor, targets: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Mean cross entropy in nats a token, and the state to carry on with.

        tokens, targets: [T, B]
        """
        logits, state = self(tokens, state)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()), state

    @torch.inference_mode()
    def generate(
        self,
        prompt: Tensor,
        length: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        exclude: Sequence[int] = (),
        generator: torch.Generator | None = None,
    ) -> Iterator[int]:
        """Write ``length`` tokens after the prompt, one at a time, in evaluation mode.

        prompt: [T] ids, T > 0. temperature, top_k, top_p: see `elman.models.sampling.sample`.
        exclude: ids that are never written.
        """
        if prompt.dim() != 1 or prompt.numel() == 0:
            raise OptionError(f"prompt must be [T] ids with T > 0, got {list(prompt.shape)}")
        was_training = self.training
        self.eval()
        try:
            logits, state = self(prompt[:, None])
            for _ in range(length):
                last = logits[-1, 0]
                last[list(exclude)] = -torch.inf
                token = sample(last, temperature, top_k, top_p, generator)
                yield int(token)
                logits, state = self(token.view(1, 1), state)
        finally:
            self.train(was_training)


def _built(build: CellClass, input_size: int, hidden_size: int, options: Mapping[str, Any]) -> Cell:
    try:
        return build(input_size, hidden_size, **options)
    except TypeError as error:
        raise OptionError(
            f"{getattr(build, '__name__', build)} cannot be built as cell(input_size, hidden_size"
            f"{''.join(f', {k}={v!r}' for k, v in options.items())}): {error}"
        ) from error
