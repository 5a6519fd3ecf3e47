"""The boxes of a track in, its next boxes out."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor, nn

from elman.errors import OptionError, ShapeError, require_positive, unknown
from elman.layers import Stack
from elman.layers.dropout import Dropout
from elman.models.common.bridge import Bridge
from elman.models.common.encoder import StackOptions, build_stack
from elman.models.common.loss import Loss
from elman.models.common.targets import inside

DECODERS = ("direct", "recurrent")
COORDINATES = ("offsets", "absolute", "both")
CHANGES = ("velocity", "box")


class Now(NamedTuple):
    """What is known at the last box of each track: the box and its velocity [B, 4], its height
    [B, 1], the layers' last output [B, S] and state."""

    box: Tensor
    velocity: Tensor
    height: Tensor
    hidden: Tensor
    state: Any


class Tracker(nn.Module):
    """The next H boxes of a track from those so far.

        b_t = [centre x, centre y, width, height]       s_t: the height of b_t
        u_t = (b_t - b_{t-1}) / (s_t e)                 offsets; 0 at t = 1
              (b_t - mean) / deviation                  absolute; or both
        g_1 ... g_T = encoder(u_1 ... u_T)
        v = (b_T - b_{T-m}) / m                         m: velocity_steps, or all there are
        b^_{T+h} = b_T + h (v + s_T e o_h)              change_from "velocity"
                   b_T + h s_T e o_h                    change_from "box"

    decoder "direct":      o = V relu(W [g_T; v / (s_T e)] + b) + c
    decoder "recurrent":   d_1 ... d_H = decoder([h / H; v / (s_T e)]) from the encoder's last
                           state, o_h = V d_h + c

    V and c begin at 0, so that an untrained model says constant velocity.

    past: [T, B, 4] boxes, lengths: [B], 1 ... T, None where all are T   ->   [H, B, 4]
    mean, deviation: of the boxes of the training part, for "absolute". typical: e, the size of an
    offset there, in heights.
    options: see `StackOptions`; dropout acts on what the output layer reads too.

    Raises OptionError, ShapeError. Sources: Cho et al. 2014 (recurrent); Schöller et al. 2020, What
    the Constant Velocity Model Can Teach Us About Pedestrian Motion Prediction (the baseline).
    """

    def __init__(
        self,
        horizon: int,
        *,
        decoder: str = "direct",
        coordinates: str = "offsets",
        change_from: str = "velocity",
        velocity_steps: int = 1,
        mean: Sequence[float] = (0.0,) * 4,
        deviation: Sequence[float] = (1.0,) * 4,
        typical: Sequence[float] = (0.01,) * 4,
        hidden_size: int = 64,
        num_layers: int = 1,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        require_positive(horizon=horizon, velocity_steps=velocity_steps)
        for name, value, valid in (
            ("decoder", decoder, DECODERS),
            ("coordinates", coordinates, COORDINATES),
            ("change_from", change_from, CHANGES),
        ):
            if value not in valid:
                raise unknown(name, value, valid)
        for name, values in (("mean", mean), ("deviation", deviation), ("typical", typical)):
            if len(values) != 4 or (name != "mean" and min(values) <= 0):
                raise OptionError(
                    f"{name} must be four numbers, those of deviation and typical above 0, got "
                    f"{list(values)}"
                )
            self.register_buffer(name, torch.tensor(tuple(values)), persistent=False)
        self.horizon, self.velocity_steps = horizon, velocity_steps
        self.coordinates, self.change_from = coordinates, change_from
        self.mean: Tensor
        self.deviation: Tensor
        self.typical: Tensor
        read = 8 if coordinates == "both" else 4
        self.encoder = build_stack(read, hidden_size, num_layers, **options)
        self.dropout = Dropout(options.get("dropout", 0.0))
        self.decoder: nn.Module
        if decoder == "direct":
            self.decoder = nn.Linear(self.encoder.output_size + 4, hidden_size)
            self.head = nn.Linear(hidden_size, horizon * 4)
        else:
            self.decoder = build_stack(5, hidden_size, num_layers, **options)
            self.bridge = Bridge(self.encoder, self.decoder)
            self.head = nn.Linear(self.decoder.output_size, 4)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, past: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The next boxes: [H, B, 4]."""
        if past.dim() != 3 or past.shape[-1] != 4 or not len(past):
            raise ShapeError(f"past must be boxes [T, B, 4], T above 0, got {list(past.shape)}")
        valid = inside(lengths, past)
        counts = valid.sum(0)
        if not (counts > 0).all():
            raise ShapeError("a track must have a box at least")
        past = torch.where(valid[..., None], past, 1.0)  # whatever stood in the padding
        hidden, state = self.encoder(self.read(past), lengths=counts)
        last = counts - 1
        box, before = at(past, last), at(past, (last - self.velocity_steps).clamp(min=0))
        steps = last.clamp(min=1, max=self.velocity_steps)[:, None]
        return self.said(Now(box, (box - before) / steps, height(box), at(hidden, last), state))

    def read(self, boxes: Tensor, before: Tensor | None = None) -> Tensor:
        """What the encoder reads of boxes [T, B, 4]. before: [B, 4], the box before the first."""
        parts = []
        if self.coordinates != "absolute":
            before = boxes[0] if before is None else before
            moves = torch.diff(boxes, dim=0, prepend=before[None])
            parts.append(moves / (height(boxes) * self.typical))
        if self.coordinates != "offsets":
            parts.append((boxes - self.mean) / self.deviation)
        return torch.cat(parts, dim=-1)

    def said(self, now: Now) -> Tensor:
        """The boxes that follow: [H, B, 4]."""
        unit = now.height * self.typical
        velocity = now.velocity / unit
        ahead = torch.arange(1, self.horizon + 1, dtype=velocity.dtype, device=velocity.device)
        ahead = ahead[:, None, None]
        if isinstance(self.decoder, Stack):
            part = (ahead / self.horizon).expand(-1, len(velocity), 1)
            fed = torch.cat((part, velocity.expand(self.horizon, -1, -1)), dim=-1)
            d, _ = self.decoder(fed, self.bridge(now.state))
            o = self.head(self.dropout(d))
        else:
            read = self.dropout(torch.cat((now.hidden, velocity), dim=-1))
            o = self.head(self.dropout(self.decoder(read).relu()))
            o = o.unflatten(-1, (self.horizon, 4)).transpose(0, 1)
        corrected = unit * o
        if self.change_from == "velocity":
            corrected = corrected + now.velocity
        return now.box + ahead * corrected

    def loss(self, past: Tensor, past_lengths: Tensor | None, future: Tensor) -> Loss:
        """|b - b^| / s_T, summed over coordinates and future boxes; the count of these boxes.

        future: [H, B, 4]
        """
        found = self(past, past_lengths)
        if future.shape != found.shape:
            raise ShapeError(f"future must be {list(found.shape)}, got {list(future.shape)}")
        last = inside(past_lengths, past).sum(0) - 1
        each = (found - future).abs() / height(at(past, last))
        return Loss(each.sum(), future.shape[0] * future.shape[1])


def height(boxes: Tensor) -> Tensor:
    """[..., 1] the heights of boxes [..., 4], as a unit of length: a pixel at least."""
    return boxes[..., 3:].clamp(min=1.0)


def at(values: Tensor, steps: Tensor) -> Tensor:
    """values [T, B, F] at one step of each sequence, [B]   ->   [B, F]"""
    return values[steps, torch.arange(values.shape[1], device=values.device)]


def constant_velocity(past: Tensor, lengths: Tensor, horizon: int) -> Tensor:
    """Boxes that go on as from the last but one to the last, in width and height too: [H, B, 4]."""
    last = lengths - 1
    box = at(past, last)
    ahead = torch.arange(1, horizon + 1, dtype=past.dtype)[:, None, None]
    return box + ahead * (box - at(past, (last - 1).clamp(min=0)))
