"""A picture in, a sentence out."""

from typing import Any, Unpack

import torch
from torch import Tensor, nn

from elman.errors import OptionError, ShapeError
from elman.layers.dropout import Dropout
from elman.models.common.decoder import Decoder, DecoderState
from elman.models.common.encoder import StackOptions
from elman.models.common.initial_state import Start
from elman.models.common.loss import Loss
from elman.models.common.teacher_forcing import (
    TeacherForced,
    check_teaching,
    teacher_forced,
    teacher_forcing_loss,
)
from elman.models.decoding import select_rows

#: Of a channel of pictures from 0 to 1, where nothing else is known.
HALF = (0.5, 0.5, 0.5)


class Captioner(nn.Module):
    """Looks at a picture, and writes what is on it.

        m_1 ... m_S = encoder((picture / 255 - mean) / std)      the places of a grid, or S = 1
        v = mean_s m_s
        s_0 = tanh(W_s v + b_s)                                  every part of every layer's state
        h~_t, s_t = decoder(y_{t-1}, s_{t-1}, m)                 y_0 = start
        p(y_t | y_1 ... y_{t-1}, picture) = softmax(V h~_t + b)  y_{T+1} = end

    picture: [B, H, W, 3], uint8 from 0 to 255 or floats from 0 to 1
    target: [T, N] ids without start and end, target_lengths: [N]
    rows: [N], which picture each target belongs to, where pictures have several; None: N = B
    encoder: any module, [B, 3, H, W] -> a grid [B, C, h, w], vectors [B, S, C], or one [B, C].
    feature_size: C; the encoder's output_size where not given. frozen: the encoder keeps its
    weights, and stays in evaluation mode. mean, std: what it was made for.
    attention: None, "additive", "dot" or "general", see `elman.layers.Attention`. feed_context: v
    enters every step; for a model without attention. input_feeding, tie_weights, options: see
    `Decoder`. embedding_size: hidden_size where not given.
    label_smoothing: share of the training loss that is spread evenly over the vocabulary.

    With attention that does not feed the next step, and without, all steps of all targets run in
    one call. A picture is read once for all its targets. Raises OptionError, and ShapeError.

    Sources: Vinyals et al. 2015, Show and Tell (without attention; the picture there is the first
    input, here the first state); Xu et al. 2015, Show, Attend and Tell, sections 3.1 and 4.2
    (additive; the query there is the state before the step, here the state after it).
    """

    def __init__(
        self,
        vocab_size: int,
        encoder: nn.Module,
        *,
        start: int,
        end: int,
        feature_size: int | None = None,
        frozen: bool = False,
        mean: tuple[float, ...] = HALF,
        std: tuple[float, ...] = HALF,
        embedding_size: int | None = None,
        hidden_size: int = 256,
        num_layers: int = 1,
        attention: str | None = "additive",
        input_feeding: bool = False,
        feed_context: bool = False,
        tie_weights: bool = False,
        label_smoothing: float = 0.0,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        check_teaching(vocab_size, label_smoothing, start=start, end=end)
        if feed_context and attention is not None:
            raise OptionError(
                "feed_context is for a model without attention, which finds a context of its own "
                "at each step; use input_feeding to feed that one"
            )
        size = getattr(encoder, "output_size", None) if feature_size is None else feature_size
        if not isinstance(size, int):
            raise OptionError(
                f"{type(encoder).__name__} has no output_size: give feature_size, how many "
                "numbers it says of each place"
            )
        self.encoder, self.feature_size = encoder, size
        self.start, self.end = start, end
        self.feed_context, self.label_smoothing = feed_context, label_smoothing
        self.frozen = frozen
        if frozen:
            encoder.requires_grad_(False).eval()
        self.decoder = Decoder(
            vocab_size,
            embedding_size=hidden_size if embedding_size is None else embedding_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            memory_size=size,
            context_size=size if feed_context else 0,
            attention=attention,
            input_feeding=input_feeding,
            tie_weights=tie_weights,
            **options,
        )
        self.first = Start(size, self.decoder.stack)
        self.dropout = Dropout(options.get("dropout", 0.0))
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def train(self, mode: bool = True) -> "Captioner":
        """As any module, but a frozen encoder stays as it is."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(
        self,
        picture: Tensor,
        target: Tensor,
        target_lengths: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """What the model predicts after start and after each token of the target.

        Returns logits [T + 1, N, V] and the weights of attention [T + 1, N, S] or None; past
        target_lengths[n] + 1 they mean nothing.
        """
        inputs, _, lengths = self._teacher_forced(picture, target, target_lengths, rows)
        hidden, weights = self.decoder(inputs, self._started(picture, rows), lengths)
        return self.decoder.logits(hidden), weights

    def loss(
        self,
        picture: Tensor,
        target: Tensor,
        target_lengths: Tensor | None = None,
        rows: Tensor | None = None,
        scheduled_sampling: float = 0.0,
    ) -> Loss:
        """The cross entropy in nats of all tokens of the targets and of their ends; their count.

        scheduled_sampling: the probability that the model is fed its own word, see
        `Decoder.forward`. Training takes label_smoothing in, evaluation not.
        """
        given = self._teacher_forced(picture, target, target_lengths, rows)
        state = self._started(picture, rows)
        smoothing = self.label_smoothing if self.training else 0.0
        return teacher_forcing_loss(
            self.decoder,
            given,
            state,
            scheduled_sampling=scheduled_sampling,
            label_smoothing=smoothing,
        )

    def features(self, picture: Tensor) -> Tensor:
        """m: [S, B, feature_size], the places of a grid line by line."""
        if picture.dim() != 4 or picture.shape[-1] != 3:
            raise ShapeError(f"pictures must be [B, H, W, 3], got {list(picture.shape)}")
        x = picture.to(self.mean.dtype)
        x = x if picture.is_floating_point() else x / 255
        x = ((x - self.mean) / self.std).permute(0, 3, 1, 2)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            found = self.encoder(x)
        return as_places(found, self.feature_size)

    def start_state(self, picture: Tensor) -> DecoderState:
        """What `step` starts from: a nest of tuples of tensors, the batch on axis 0 of each."""
        memory = self.dropout(self.features(picture))
        vector = memory.mean(dim=0)
        attention = self.decoder.attention
        prepared: Any = () if attention is None else attention.prepare(memory)
        context = (vector,) if self.feed_context else ()
        return self.decoder.begin(self.first(vector), prepared, context)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, DecoderState, Tensor | None]:
        """The logits of the next token, after this one; the first is `start`.

        tokens: [N] ids   state: of `start_state` or of the last step, its rows in any order
          ->   logits [N, V], the state, the weights of attention [N, S] or None
        """
        return self.decoder.step(tokens, state)

    def _started(self, picture: Tensor, rows: Tensor | None) -> DecoderState:
        state = self.start_state(picture)
        return state if rows is None else DecoderState(*select_rows(state, rows))

    def _teacher_forced(
        self, picture: Tensor, target: Tensor, lengths: Tensor | None, rows: Tensor | None
    ) -> TeacherForced:
        given = teacher_forced(target, lengths, self.start, self.end)
        count, wanted = given.labels.shape[1], len(picture) if rows is None else len(rows)
        if count != wanted:
            of = "pictures" if rows is None else "rows"
            raise ShapeError(f"there are {count} targets and {wanted} {of}: one of each is a pair")
        return given


def as_places(found: Any, feature_size: int) -> Tensor:
    """What an encoder has found as [S, B, C]; ShapeError where it is of no known form."""
    places = None
    if isinstance(found, Tensor) and found.dim() in (2, 3, 4):
        rows = found[:, None] if found.dim() == 2 else found
        rows = rows.flatten(2).transpose(1, 2) if rows.dim() == 4 else rows
        places = rows.transpose(0, 1)
    if places is None or places.shape[-1] != feature_size:
        got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ShapeError(
            f"an encoder of pictures must give [B, C, h, w], [B, S, C] or [B, C] with C = "
            f"{feature_size}, got {got}"
        )
    return places
