"""What sequence models share: tokens or vectors in, a deep recurrent network over them."""

from collections.abc import Callable, Mapping
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn

from elman.cells import Cell, cell_named
from elman.errors import OptionError, ShapeError, require_positive
from elman.layers import Bidirectional, Recurrent, Stack
from elman.layers.dropout import Dropout
from elman.layers.layer import Layer

CellClass = Callable[..., Cell]


class StackOptions(TypedDict, total=False):
    """What a model says of its recurrent layers.

    cell: a built-in cell's name, or a class built as cell(input_size, hidden_size, **cell_options).
    dropout: between the layers. input_dropout, state_dropout, zoneout, weight_drop: of each layer,
    see `elman.layers.Regularisers`. residual, layer_norm: see `elman.Stack`.
    """

    cell: str | CellClass
    cell_options: Mapping[str, Any] | None
    dropout: float
    input_dropout: float
    state_dropout: float
    zoneout: float | Mapping[str, float]
    weight_drop: float
    residual: bool
    layer_norm: bool


def build_stack(
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    bidirectional: bool = False,
    **options: Unpack[StackOptions],
) -> Stack:
    """Layers of one kind of cell, hidden_size units in each direction.

    Raises OptionError for sizes below 1 and for a cell that cannot be built so.
    """
    require_positive(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
    given: dict[str, Any] = dict(options)
    of_stack = {k: given.pop(k) for k in ("dropout", "residual", "layer_norm") if k in given}
    cell = given.pop("cell", "lstm")
    cell_options = given.pop("cell_options", None) or {}
    build = cell_named(cell) if isinstance(cell, str) else cell

    def one_way(size: int, reverse: bool = False) -> Recurrent:
        return Recurrent(_built(build, size, hidden_size, cell_options), reverse=reverse, **given)

    layers: list[Layer] = []
    for _ in range(num_layers):
        size = layers[-1].output_size if layers else input_size
        layers.append(
            Bidirectional(one_way(size), one_way(size, True)) if bidirectional else one_way(size)
        )
    return Stack(layers, **of_stack)


class Encoder(nn.Module):
    """A sequence of tokens or of vectors, read by a deep recurrent network.

        u_t = E w_t for tokens, x_t for vectors
        outputs, state = stack(dropout(u))

    x: [T, B] ids where vocab_size is given, else [T, B, input_size]
      ->   outputs: [T, B, output_size], state: as `elman.Stack` returns it
    embedding_size: of a token's vector, hidden_size where not given. hidden_size: in each
    direction. options: see `StackOptions`; dropout acts on u_t too.

    Raises OptionError, and ShapeError for an id outside the vocabulary.
    """

    def __init__(
        self,
        *,
        vocab_size: int | None = None,
        input_size: int | None = None,
        embedding_size: int | None = None,
        hidden_size: int = 256,
        num_layers: int = 1,
        bidirectional: bool = False,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        if (vocab_size is None) == (input_size is None):
            raise OptionError("give either vocab_size, for tokens, or input_size, for vectors")
        if vocab_size is not None:
            input_size = hidden_size if embedding_size is None else embedding_size
            require_positive(
                vocab_size=vocab_size, hidden_size=hidden_size, embedding_size=input_size
            )
        assert input_size is not None
        self.stack = build_stack(
            input_size, hidden_size, num_layers, bidirectional=bidirectional, **options
        )
        self.dropout = Dropout(options.get("dropout", 0.0))
        self.embedding = None if vocab_size is None else nn.Embedding(vocab_size, input_size)

    @property
    def output_size(self) -> int:
        """The size of the last axis of the outputs."""
        return self.stack.output_size

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: Any = None, **sequence: Any
    ) -> tuple[Tensor, Any]:
        """The outputs at all steps and the last state; ``sequence``: as any layer takes it."""
        u = x if self.embedding is None else embedded(self.embedding, x)
        return self.stack(self.dropout(u), state, lengths=lengths, **sequence)


def embedded(embedding: nn.Embedding, tokens: Tensor) -> Tensor:
    """The vectors of tokens [T, B] or [T]; ShapeError where they are no ids of the vocabulary."""
    if tokens.dim() not in (1, 2) or tokens.dtype not in (torch.int64, torch.int32):
        raise ShapeError(
            f"tokens must be whole numbers [T, B] or [T], got {tokens.dtype} {list(tokens.shape)}"
        )
    try:
        return embedding(tokens)
    except IndexError as error:
        raise ShapeError(
            f"tokens must lie in 0 ... {embedding.num_embeddings - 1}, got "
            f"{int(tokens.min())} ... {int(tokens.max())}"
        ) from error


def _built(build: CellClass, input_size: int, hidden_size: int, options: Mapping[str, Any]) -> Cell:
    try:
        return build(input_size, hidden_size, **options)
    except TypeError as error:
        raise OptionError(
            f"{getattr(build, '__name__', build)} cannot be built as cell(input_size, hidden_size"
            f"{''.join(f', {k}={v!r}' for k, v in options.items())}): {error}"
        ) from error
