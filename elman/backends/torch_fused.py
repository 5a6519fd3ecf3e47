"""torch's own fused kernels (cuDNN), on devices that elman has no kernels for yet."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Several
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from elman.backends.sequence import Regularisation, SequenceInfo, backwards
from elman.cells import GRU, LSTM, Elman
from elman.cells.activations import ACTIVATIONS
from elman.cells.cell import Cell, State

#: Devices for which torch has fused kernels of its own and elman has none yet.
DEVICES = {"cuda", "mps"}

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def kernel_of(cell: Cell) -> str | None:
    """Which of torch's kernels has the equation of this cell: "lstm", "gru", "rnn_tanh" or
    "rnn_relu"; None: none has."""
    if type(cell) is LSTM:
        return "lstm"
    if type(cell) is GRU and cell.reset_after and cell.update == "keep":
        return "gru"
    if type(cell) is Elman:
        for name in ("tanh", "relu"):
            if cell.activation is ACTIVATIONS[name]:
                return f"rnn_{name}"
    return None


def has_kernels(x: Tensor) -> bool:
    """Whether torch has kernels of its own where this tensor is, and elman none."""
    return x.device.type in DEVICES


def runs(
    cell: Cell, x: Tensor, noise: Regularisation, sequence: SequenceInfo, all_states: bool
) -> bool:
    """Whether torch's kernel of this cell computes just this. It has no noise inside the loop, no
    reset, no truncation, and of the states at every step the outputs alone."""
    usual = has_kernels(x) and x.dim() == 3 and 0 not in x.shape
    if not usual or all_states or sequence.reset is not None or sequence.truncate is not None:
        return False
    return noise.state_mask is None and not noise.zoneout and kernel_of(cell) is not None


def reason(x: Tensor) -> str:
    """Why elman's own kernels do not run it."""
    return (
        f"there are no kernels for {x.device.type} yet: torch's own run it, and the eager backend "
        "what they do not have (reset, truncate, return_states, noise inside the loop)"
    )


def run(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    sequence: SequenceInfo,
    reverse: bool,
) -> tuple[State, State]:
    """As `elman.runtime.scan.scan` says."""
    kernel = getattr(torch._VF, kernel_of(cell) or "")
    given = _side_by_side([weights[name] for name in WEIGHTS if name in weights])
    # One layer without dropout, one direction. Its backward pass needs what it keeps in training.
    modes = len(given) == 4, 1, 0.0, torch.is_grad_enabled(), False
    start = [part[None].contiguous() for part in state]
    if sequence.lengths is not None:

        def on_packed(data: Tensor, batch_sizes: Tensor, *hx: Tensor) -> Any:
            return kernel(data, batch_sizes, _state(hx), given, *modes)

        return _ragged(on_packed, x, start, sequence, sequence.lengths, reverse)
    x = x.flip(0) if reverse else x
    outputs, *last = kernel(x, _state(start), given, *modes, False)
    return (outputs.flip(0) if reverse else outputs,), tuple([part[0] for part in last])


def _ragged(
    kernel: Callable[..., Any],
    x: Tensor,
    start: list[Tensor],
    sequence: SequenceInfo,
    lengths: Tensor,
    reverse: bool,
) -> tuple[State, State]:
    # A sequence without steps is given one, and its result is discarded.
    x = sequence.fill(x)
    x = backwards(x, lengths) if reverse else x
    packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), enforce_sorted=False)
    data, batch_sizes, order, back = packed
    assert order is not None and back is not None
    data, *last = kernel(data, batch_sizes, *(part.index_select(1, order) for part in start))
    outputs, _ = pad_packed_sequence(packed._replace(data=data), total_length=len(x))
    there = (lengths > 0)[:, None]
    pairs = zip(last, start, strict=True)
    ends = [torch.where(there, end[0].index_select(0, back), begin[0]) for end, begin in pairs]
    outputs = backwards(outputs, lengths) if reverse else outputs
    return (sequence.mask(outputs),), tuple(ends)


def _side_by_side(weights: list[Tensor]) -> list[Tensor]:
    """The same weights on one piece of memory, as cuDNN reads them: else it copies them one by one
    in each call, and torch warns of it."""
    flat = torch.cat([weight.flatten() for weight in weights])
    parts = torch.split(flat, [weight.numel() for weight in weights])
    return [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]


def _state(parts: Several[Tensor]) -> Any:
    """The state as torch's kernels take it."""
    return parts[0] if len(parts) == 1 else tuple(parts)
