"""A sequence in, another out: the encoder-decoder."""

from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from elman.backends.sequence import backwards
from elman.errors import OptionError, ShapeError
from elman.layers import PlanReport
from elman.models.common.bridge import Bridge
from elman.models.common.decoder import Decoder, DecoderState
from elman.models.common.encoder import Encoder, StackOptions
from elman.models.common.loss import Loss
from elman.models.common.teacher_forcing import (
    TeacherForced,
    check_teaching,
    checked_tokens,
    inside,
    teacher_forced,
    teacher_forcing_loss,
)


@dataclass(frozen=True)
class EncoderDecoderPlan:
    """What would run an `EncoderDecoder`: see `elman.layers.PlanReport`.

    by_step: why the decoder runs one step at a time; "" where it runs all in one call.
    """

    encoder: PlanReport
    decoder: PlanReport
    by_step: str

    def __str__(self) -> str:
        how = f"one step at a time: {self.by_step}" if self.by_step else "all steps in one call"
        parts = (*self.encoder.below("encoder"), *self.decoder.below("decoder"))
        return "\n\n".join(["encoder: all steps in one call", f"decoder: {how}", *map(str, parts)])

    __repr__ = __str__


class EncoderDecoder(nn.Module):
    """Reads a sequence of tokens and writes another.

        m_1 ... m_S, e = encoder(x_1 ... x_S)
        s_0 = bridge(e)
        h~_t, s_t = decoder(y_{t-1}, s_{t-1}, m)        y_0 = start
        p(y_t | y_1 ... y_{t-1}, x) = softmax(V h~_t + b)      y_{T+1} = end

    source: [S, B] ids, source_lengths: [B]   target: [T, B] ids without start and end,
    target_lengths: [B]. Lengths are 0 ... S or T, in any order, None where all are valid; ids in
    the padding can be anything.
    source_size, target_size: of the vocabularies, start and end within the target's.
    embedding_size: of both, hidden_size where not given. hidden_size: of each direction of the
    encoder, and of the decoder. num_layers: of each.
    attention: None, "additive", "dot" or "general", see `elman.layers.Attention`. input_feeding:
    h~_{t-1} enters step t, see `Decoder`. feed_context: the encoder's last output enters every
    step; for a model without attention.
    reverse_source: read from the last token to the first; the weights of attention still stand in
    the order of the source.
    tie_weights: V is the target's embedding. label_smoothing: share of the training loss that is
    spread evenly over the vocabulary.
    decoder_options: of the decoder's layers, in place of ``options``, which are of both: see
    `StackOptions`. dropout acts on embeddings and h~ too.

    The state starts as `elman.models.common.bridge.Bridge` says. Raises OptionError and ShapeError.

    Sources: Sutskever, Vinyals & Le 2014, Sequence to Sequence Learning with Neural Networks
    (without attention, reverse_source); Cho et al. 2014 (feed_context); Bahdanau, Cho & Bengio
    2015 (additive, input_feeding; there the query is the state before the step and c_t enters it,
    here the state after it and h~_t the next, as in Luong); Luong, Pham & Manning 2015.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        *,
        start: int,
        end: int,
        embedding_size: int | None = None,
        hidden_size: int = 256,
        num_layers: int = 1,
        bidirectional: bool = False,
        attention: str | None = None,
        input_feeding: bool = False,
        feed_context: bool = False,
        reverse_source: bool = False,
        tie_weights: bool = False,
        label_smoothing: float = 0.0,
        decoder_options: StackOptions | None = None,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        check_teaching(target_size, label_smoothing, start=start, end=end)
        if feed_context and attention is not None:
            raise OptionError(
                "feed_context is for a model without attention, which finds a context of its own "
                "at each step; use input_feeding to feed that one"
            )
        embedding_size = hidden_size if embedding_size is None else embedding_size
        self.start, self.end = start, end
        self.feed_context, self.reverse_source = feed_context, reverse_source
        self.label_smoothing = label_smoothing
        self.encoder = Encoder(
            vocab_size=source_size,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            **options,
        )
        self.decoder = Decoder(
            target_size,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            memory_size=self.encoder.output_size,
            context_size=self.encoder.output_size if feed_context else 0,
            attention=attention,
            input_feeding=input_feeding,
            tie_weights=tie_weights,
            **(options | (decoder_options or {})),
        )
        self.bridge = Bridge(self.encoder.stack, self.decoder.stack)

    def forward(
        self,
        source: Tensor,
        source_lengths: Tensor | None,
        target: Tensor,
        target_lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """What the model predicts after start and after each token of the target.

        Returns logits [T + 1, B, V] and the weights of attention [T + 1, B, S] or None; past
        target_lengths[b] + 1 they mean nothing.
        """
        inputs, _, lengths = self._teacher_forced(target, target_lengths, source)
        state = self.start_state(source, source_lengths)
        hidden, weights = self.decoder(inputs, state, lengths)
        return self.decoder.logits(hidden), weights

    def loss(
        self,
        source: Tensor,
        source_lengths: Tensor | None,
        target: Tensor,
        target_lengths: Tensor | None,
        scheduled_sampling: float = 0.0,
    ) -> Loss:
        """The cross entropy in nats of all tokens of the target and of end; their count.

        scheduled_sampling: the probability that the model is fed its own word, see
        `Decoder.forward`; above 0 the decoder runs one step at a time. Training takes
        label_smoothing in, evaluation not.
        """
        given = self._teacher_forced(target, target_lengths, source)
        state = self.start_state(source, source_lengths)
        smoothing = self.label_smoothing if self.training else 0.0
        return teacher_forcing_loss(
            self.decoder,
            given,
            state,
            scheduled_sampling=scheduled_sampling,
            label_smoothing=smoothing,
        )

    def start_state(self, source: Tensor, lengths: Tensor | None = None) -> DecoderState:
        """What `step` starts from: a nest of tuples of tensors, the batch on axis 0 of each.

        source: [S, B], or [S] for a batch of one   lengths: [B]
        """
        source, lengths = checked_tokens("source", source, lengths)
        source = torch.where(inside(lengths, len(source)), source, 0)
        if self.reverse_source:
            source = backwards(source, lengths)
        outputs, last = self.encoder(source, lengths)
        memory: Any = ()
        if self.decoder.attention is not None:
            outputs = backwards(outputs, lengths) if self.reverse_source else outputs
            memory = self.decoder.attention.prepare(outputs, lengths)
        context = (self.bridge.encoding(last),) if self.feed_context else ()
        return self.decoder.begin(self.bridge(last), memory, context)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, DecoderState, Tensor | None]:
        """The logits of the next token, after this one; the first is `start`.

        tokens: [N] ids   state: of `start_state` or of the last step, its rows in any order
          ->   logits [N, V], the state, the weights of attention [N, S] or None
        """
        return self.decoder.step(tokens, state)

    def plan(
        self, *, batch_size: int = 16, training: bool | None = None, scheduled_sampling: float = 0.0
    ) -> EncoderDecoderPlan:
        """What would run the model, and whether the decoder waits for each of its steps."""
        training = self.training if training is None else training
        encoder, decoder = (
            half.stack.plan(batch_size=batch_size, training=training)
            for half in (self.encoder, self.decoder)
        )
        return EncoderDecoderPlan(encoder, decoder, self.decoder.by_step(scheduled_sampling))

    def _teacher_forced(
        self, target: Tensor, lengths: Tensor | None, source: Tensor
    ) -> TeacherForced:
        given = teacher_forced(target, lengths, self.start, self.end)
        B = given.labels.shape[1]
        sources = source.shape[1] if source.dim() == 2 else 1
        if sources != B:
            raise ShapeError(f"source has {sources} sequences, target {B}: one of each is a pair")
        return given
