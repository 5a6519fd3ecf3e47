"""A sequence in, a label or numbers for the whole of it out."""

from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.errors import require_positive, require_probability
from elman.layers.dropout import Dropout
from elman.layers.pooling import Pooling
from elman.models.common.evaluation import evaluating
from elman.models.common.input_encoder import InputEncoder, InputEncoderOptions
from elman.models.common.loss import Loss
from elman.models.common.targets import checked_ids, checked_numbers


class ManyToOne(nn.Module):
    """One vector for a whole sequence.

        h_1 ... h_n = reader(x_1 ... x_n)
        y = V dropout(pooling(h_1 ... h_n)) + b

    x: [T, B] ids where vocab_size is given, else [T, B, input_size]
    lengths: [B], 0 ... T, in any order, None where all are T   ->   [B, output_size]
    pooling: "last", "mean", "max" or "attention", see `elman.layers.Pooling`.
    options: see `elman.models.common.input_encoder.InputEncoder`; dropout acts on the pooled
    vector too.

    A sequence of length 0 gives b. What stands in the padding changes nothing.
    Raises OptionError, ShapeError.
    """

    def __init__(
        self, output_size: int, *, pooling: str = "last", **options: Unpack[InputEncoderOptions]
    ) -> None:
        super().__init__()
        self.reader = InputEncoder(**options)
        self.pooling = Pooling.of(self.reader.encoder.stack, pooling)
        self.dropout = Dropout(options.get("dropout", 0.0))
        self.output = nn.Linear(self.reader.output_size, output_size)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        characters: Tensor | None = None,
        word_lengths: Tensor | None = None,
    ) -> Tensor:
        """[B, output_size]."""
        hidden = self.reader(x, lengths, characters, word_lengths)
        return self.output(self.dropout(self.pooling(hidden, lengths)))


class Classifier(ManyToOne):
    """The label of a sequence.

        p(k | x) = softmax(logits)_k             one label
        p(k is on | x) = sigmoid(logits_k)       multi_label: any number of them

    x, lengths, pooling, options: see `ManyToOne`   ->   logits: [B, num_classes]
    label_smoothing: share of the training target that is spread evenly over the classes (over on
    and off for multi_label).

    Raises OptionError, ShapeError.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        pooling: str = "last",
        multi_label: bool = False,
        label_smoothing: float = 0.0,
        **options: Unpack[InputEncoderOptions],
    ) -> None:
        require_positive(num_classes=num_classes)
        require_probability(label_smoothing=label_smoothing)
        super().__init__(num_classes, pooling=pooling, **options)
        self.multi_label, self.label_smoothing = multi_label, label_smoothing

    def loss(
        self,
        x: Tensor,
        x_lengths: Tensor | None,
        label: Tensor,
        characters: Tensor | None = None,
        word_lengths: Tensor | None = None,
    ) -> Loss:
        """The cross entropy in nats, summed over sequences; their count.

        label: [B] ids; for multi_label [B, num_classes], 0 or 1, whose nats are summed too.
        Training takes label_smoothing in, evaluation not.
        """
        logits = self(x, x_lengths, characters, word_lengths)
        share = self.label_smoothing if self.training else 0.0
        if self.multi_label:
            wanted = checked_numbers("label", label, logits) * (1 - share) + share / 2
            total = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        else:
            label = checked_ids("label", label, logits.shape[1], logits.shape[:1])
            total = F.cross_entropy(logits, label, reduction="sum", label_smoothing=share)
        return Loss(total, len(logits))

    def probabilities(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        characters: Tensor | None = None,
        word_lengths: Tensor | None = None,
    ) -> Tensor:
        """p(k | x) [B, num_classes], in evaluation mode and without gradient."""
        with evaluating(self):
            logits = self(x, lengths, characters, word_lengths)
            return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)


class Regressor(ManyToOne):
    """Numbers that a sequence stands for.

        y = V dropout(pooling(h_1 ... h_n)) + b

    x, lengths, pooling, options: see `ManyToOne`   ->   [B, num_targets]

    Raises OptionError, ShapeError.
    """

    def __init__(
        self, num_targets: int = 1, *, pooling: str = "last", **options: Unpack[InputEncoderOptions]
    ) -> None:
        require_positive(num_targets=num_targets)
        super().__init__(num_targets, pooling=pooling, **options)

    def loss(
        self,
        x: Tensor,
        x_lengths: Tensor | None,
        target: Tensor,
        characters: Tensor | None = None,
        word_lengths: Tensor | None = None,
    ) -> Loss:
        """The squared error, summed over targets and sequences; the count of sequences.

        target: [B, num_targets]; [B] where there is one.
        """
        found = self(x, x_lengths, characters, word_lengths)
        # In mixed precision the target is finer than what the network computes with.
        found = found.to(torch.promote_types(found.dtype, torch.float32))
        if target.dim() == 1 and found.shape[1] == 1:
            target = target[:, None]
        target = checked_numbers("target", target, found)
        return Loss((found - target).square().sum(), len(found))
