"""Teacher forcing: a decoder reads the target so far, and predicts its next unit."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from elman.errors import OptionError, ShapeError, require_probability
from elman.layers.layer import checked_lengths
from elman.models.common.decoder import Decoder
from elman.models.common.loss import Loss


class TeacherForced(NamedTuple):
    """What a decoder reads and what it is to say to it, both [T + 1, B]; lengths: [B], of both."""

    inputs: Tensor
    labels: Tensor
    lengths: Tensor


def teacher_forced(target: Tensor, lengths: Tensor | None, start: int, end: int) -> TeacherForced:
    """start before the target, the target with end behind it.

    target: [T, B] ids, or [T]; those in the padding can be anything. Raises ShapeError.
    """
    target, lengths = checked_tokens("target", target, lengths)
    longer = torch.cat((target, target.new_full((1, target.shape[1]), end)))
    labels = torch.where(inside(lengths, len(longer)), longer, end).long()
    inputs = torch.cat((labels.new_full((1, labels.shape[1]), start), labels[:-1]))
    return TeacherForced(inputs, labels, lengths + 1)


def teacher_forcing_loss(
    decoder: Decoder,
    given: TeacherForced,
    state: Any,
    *,
    scheduled_sampling: float = 0.0,
    label_smoothing: float = 0.0,
) -> Loss:
    """The cross entropy in nats of all labels, ends among them; their count.

    scheduled_sampling: see `Decoder.forward`. label_smoothing: share of the loss that is spread
    evenly over the vocabulary. Raises OptionError.
    """
    if not 0 <= scheduled_sampling <= 1:
        raise OptionError(
            f"scheduled_sampling must be a probability in [0, 1], got {scheduled_sampling!r}"
        )
    inputs, labels, lengths = given
    hidden, _ = decoder(inputs, state, lengths, scheduled_sampling)
    # The logits are by far the largest thing here: none for the padding.
    valid = inside(lengths, len(inputs)).flatten().nonzero()[:, 0]
    logits = decoder.logits(hidden.flatten(0, 1).index_select(0, valid))
    total = F.cross_entropy(
        logits, labels.flatten()[valid], reduction="sum", label_smoothing=label_smoothing
    )
    return Loss(total, len(valid))


def check_teaching(size: int, label_smoothing: float, **ids: int) -> None:
    """Raise OptionError for a rate that is no probability, or an id outside the vocabulary."""
    require_probability(label_smoothing=label_smoothing)
    for name, token in ids.items():
        if not 0 <= token < size:
            raise OptionError(f"{name} must be an id of the target, 0 ... {size - 1}, got {token}")


def checked_tokens(name: str, tokens: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """tokens as [T, B], and lengths for each; ShapeError."""
    if tokens.dim() not in (1, 2) or tokens.is_floating_point():
        raise ShapeError(
            f"{name} must be whole numbers [T, B] or [T], got {tokens.dtype} {list(tokens.shape)}"
        )
    tokens = tokens[:, None] if tokens.dim() == 1 else tokens
    T, B = tokens.shape
    if lengths is None:
        return tokens, torch.full((B,), T, device=tokens.device)
    return tokens, checked_lengths(lengths, T, B, tokens.device)


def inside(lengths: Tensor, steps: int) -> Tensor:
    """[T, B] bool: which steps are inside their sequence."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths
