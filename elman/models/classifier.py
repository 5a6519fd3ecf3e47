"""A sequence in, a label or a number out."""

from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.errors import require_positive, require_probability
from elman.layers.pooling import Pooling
from elman.models.encoder import Encoder, StackOptions
from elman.models.loss import Loss


class SequenceReader(nn.Module):
    """What many-to-one models share: an encoder, a pooling, and a linear layer on it.

        y = W dropout(pool_t(encoder(x)_t)) + b

    x: [T, B] ids where vocab_size is given, else [T, B, input_size]   ->   y: [B, outputs]
    pooling: see `elman.layers.pooling.Pooling`. word_dropout: the share of ids that are replaced
    by ``unknown_id`` in training. options: see `StackOptions`.

    Raises OptionError.
    """

    def __init__(
        self,
        outputs: int,
        *,
        vocab_size: int | None = None,
        input_size: int | None = None,
        embedding_size: int | None = None,
        hidden_size: int = 256,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "last",
        word_dropout: float = 0.0,
        unknown_id: int = 0,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        require_probability(word_dropout=word_dropout)
        self.encoder = Encoder(
            vocab_size=vocab_size,
            input_size=input_size,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            **options,
        )
        size = self.encoder.output_size
        self.pooling = Pooling(size, pooling, both_ways=bidirectional)
        self.dropout = nn.Dropout(options.get("dropout", 0.0))
        self.output = nn.Linear(size, outputs)
        self.word_dropout = word_dropout
        self.unknown_id = unknown_id

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """One vector of outputs for each sequence."""
        if self.training and self.word_dropout and not x.is_floating_point():
            hidden = torch.rand(x.shape, device=x.device) < self.word_dropout
            x = torch.where(hidden, self.unknown_id, x)
        outputs, _ = self.encoder(x, lengths)
        return self.output(self.dropout(self.pooling(outputs, lengths)))


class Classifier(SequenceReader):
    """A label for each sequence.

        p(label | x) = softmax(y)

    num_classes: how many labels there are. label_smoothing: the share of the truth that goes to
    all labels alike, in training (Szegedy et al. 2016). reader: see `SequenceReader`.
    """

    def __init__(self, num_classes: int, *, label_smoothing: float = 0.0, **reader: object) -> None:
        require_positive(num_classes=num_classes)
        require_probability(label_smoothing=label_smoothing)
        super().__init__(num_classes, **reader)  # type: ignore[arg-type]
        self.label_smoothing = label_smoothing

    def loss(self, x: Tensor, x_lengths: Tensor, label: Tensor) -> Loss:
        """The cross entropy in nats of the labels [B]."""
        return self.loss_of(self(x, x_lengths), label)

    def loss_of(self, logits: Tensor, label: Tensor) -> Loss:
        """The same of the logits [B, num_classes]."""
        smoothing = self.label_smoothing if self.training else 0.0
        total = F.cross_entropy(logits, label, label_smoothing=smoothing, reduction="sum")
        return Loss(total, len(label))


class Regressor(SequenceReader):
    """A number, or several, for each sequence: y itself.

    outputs: how many. reader: see `SequenceReader`.
    """

    def __init__(self, outputs: int = 1, **reader: object) -> None:
        require_positive(outputs=outputs)
        super().__init__(outputs, **reader)  # type: ignore[arg-type]

    def loss(self, x: Tensor, x_lengths: Tensor, target: Tensor) -> Loss:
        """The squared error of the targets [B], or [B, outputs]; count: numbers."""
        found = self(x, x_lengths)
        return Loss((found - target.reshape(found.shape)).square().sum(), found.numel())
