"""Frames in, the units spoken in them out, without knowing when."""

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor, nn

from elman.errors import ShapeError, require_positive
from elman.layers.dropout import Dropout
from elman.models.common.input_encoder import InputEncoder, InputEncoderOptions
from elman.models.common.loss import Loss
from elman.models.common.targets import checked_ids, inside


class Transcriber(nn.Module):
    """Connectionist temporal classification: every step says a unit or nothing (the blank).

        h_1 ... h_T = reader(x_1 ... x_T)
        p(k | t) = softmax(V dropout(h_t) + b)_k              k: a unit, or the blank
        p(y | x) = sum over paths that collapse to y of prod_t p(path_t | t)

    A path collapses by taking repeats together, then leaving the blanks out: -aa-ab gives aab.

    x: [T, B, input_size], lengths: [B], 0 ... T   ->   log probabilities [T, B, num_units + 1]
    The blank is the last id, num_units. options: see `InputEncoder`.

    Raises OptionError, ShapeError. Source: Graves et al. 2006, eq. 3.
    """

    def __init__(self, num_units: int, **options: Unpack[InputEncoderOptions]) -> None:
        require_positive(num_units=num_units)
        super().__init__()
        self.blank = num_units
        self.reader = InputEncoder(**options)
        self.dropout = Dropout(options.get("dropout", 0.0))
        self.output = nn.Linear(self.reader.output_size, num_units + 1)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[T, B, num_units + 1] log probabilities of each step's unit or blank."""
        return self.output(self.dropout(self.reader(x, lengths))).log_softmax(dim=-1)

    def loss(self, x: Tensor, x_lengths: Tensor, y: Tensor, y_lengths: Tensor) -> Loss:
        """-ln p(y | x) in nats, summed over sequences; the count of units.

        y: [L, B] ids, y_lengths: [B]. It is infinite where a sequence has fewer steps than
        `elman.models.audio.ctc.required_steps`.
        """
        return self.loss_of(self(x, x_lengths), x_lengths, y, y_lengths)

    def loss_of(self, log_p: Tensor, x_lengths: Tensor, y: Tensor, y_lengths: Tensor) -> Loss:
        """`loss` from the log probabilities that `forward` gave."""
        if y.dim() != 2 or y.shape[1] != log_p.shape[1]:
            raise ShapeError(f"y must be [L, B] with B = {log_p.shape[1]}, got {list(y.shape)}")
        y = checked_ids("y", y, self.blank, y.shape, inside(y_lengths, y))
        total = F.ctc_loss(
            log_p.float(), y.T, x_lengths, y_lengths, blank=self.blank, reduction="sum"
        )
        return Loss(total, y_lengths.sum())
