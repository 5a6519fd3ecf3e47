"""Series in, their next values out."""

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import torch
from torch import Tensor, nn

from elman.errors import OptionError, ShapeError, require_positive, unknown
from elman.layers import Stack
from elman.layers.dropout import Dropout
from elman.layers.stream import Stream
from elman.models.common.bridge import Bridge
from elman.models.common.encoder import StackOptions, build_stack
from elman.models.common.loss import Loss
from elman.models.series.distribution_head import Output, Quantiles

DECODERS = ("direct", "recurrent", "autoregressive")
LEVELS = ("last", "mean", "none")
CHANGES = ("level", "season")


class Place(NamedTuple):
    """Where a window lies: its level a, its scale s [B, C], and what the forecast is a change
    from, r [H, B, C] in the window's own units."""

    level: Tensor
    scale: Tensor
    change_from: Tensor


class Forecaster(nn.Module):
    """The next H values of series from the last T, and what is known of the future.

        a = y_T, mean(y) or 0         s = deviation(y) or 1        the window's own level and scale
        z_t = (y_t - a) / s
        u_k = [z_t, x_t, e  of the P steps of patch k]             x: covariates; e: of the series
        h_1 ... h_{T/P} = encoder(u_1 ... u_{T/P})
        o = what the decoder says, see below
        y^_h = a + s (r_h + o_h)            r_h = 0, or z one season before

    decoder "direct":      o = V relu(W [h_{T/P}; x_{T+1} ... x_{T+H}; e] + b) + c
    decoder "recurrent":   g_1 ... g_H = decoder([x_{T+h}; e; r_h]) from the encoder's last state,
                           o_h = V g_h + c
    linear: o gets A [z_1 ... z_T] too, one A for all channels (Lai et al. 2018, the autoregressive
    part).

    y: [T, B, C] past values   ->   what `Output` calls o: [H, B, C, K]
    x: [T + H, B, X] covariates; what is not known beyond T stands at 0 there.
    series: [B] ids, 0 for one that was never seen.
    channels: C, the values of a step that are read and forecast together. patch: P, steps that are
    read at once. season: m, of "season". num_series: ids from 1; 0: there is no embedding.
    unseen: the share of training windows whose series is shown as 0.

    Raises OptionError, ShapeError. Sources: Wen et al. 2017 (direct), Cho et al. 2014 (recurrent),
    Lin et al. 2023 (the last value, patches).
    """

    def __init__(
        self,
        horizon: int,
        context: int,
        *,
        output: Output,
        channels: int = 1,
        covariates: int = 0,
        decoder: str = "direct",
        patch: int = 1,
        level: str = "last",
        scaled: bool = False,
        change_from: str = "level",
        season: int = 1,
        linear: bool = True,
        num_series: int = 0,
        series_size: int = 8,
        unseen: float = 0.02,
        hidden_size: int = 64,
        num_layers: int = 1,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        require_positive(
            horizon=horizon, context=context, channels=channels, patch=patch, season=season
        )
        if decoder not in DECODERS[:2]:
            raise unknown("decoder", decoder, DECODERS[:2])
        check_window(level, change_from, season, context)
        if context % patch:
            raise OptionError(f"context {context} must be a multiple of patch {patch}")
        self.horizon, self.context, self.channels, self.patch = horizon, context, channels, patch
        self.covariates, self.season = covariates, season
        self.level, self.scaled, self.change_from = level, scaled, change_from
        self.output, self.unseen = output, unseen
        self.series = nn.Embedding(num_series + 1, series_size) if num_series else None
        own = series_size if num_series else 0
        read = patch * (channels + covariates) + own
        self.encoder = build_stack(read, hidden_size, num_layers, **options)
        self.dropout = Dropout(options.get("dropout", 0.0))
        self.decoder: nn.Module
        said = channels * output.size
        if decoder == "direct":
            future = hidden_size + horizon * covariates + own
            self.decoder = nn.Linear(future, hidden_size)
            self.head = nn.Linear(hidden_size, horizon * said)
        else:
            fed = covariates + own + channels + 1
            self.decoder = build_stack(fed, hidden_size, num_layers, **options)
            self.bridge = Bridge(self.encoder, self.decoder)
            self.head = nn.Linear(hidden_size, said)
        self.linear = nn.Linear(context, horizon * output.size, bias=False) if linear else None
        nn.init.zeros_(self.head.bias)
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)
        if isinstance(output, Quantiles):
            _spread(self.head.bias, output)

    def forward(self, y: Tensor, x: Tensor | None = None, series: Tensor | None = None) -> Tensor:
        """What the output says of each future value, [H, B, C, K], ready for its methods."""
        self._check(y, x)
        place, e = self._place(y), self._embedded(series, y)
        z = (y - place.level) / place.scale
        past = z if x is None else torch.cat((z, x[: self.context]), dim=-1)
        hidden, state = self.encoder(with_vector(self._patches(past), e))
        return self._said(hidden[-1], state, place, z, x, e)

    def _said(
        self,
        h: Tensor,
        state: object,
        place: Place,
        z: Tensor,
        x: Tensor | None,
        e: Tensor | None,
    ) -> Tensor:
        """What `forward` returns, from the encoder's last output and state."""
        future = None if x is None else x[self.context :]
        if isinstance(self.decoder, Stack):
            o = self._recurrent(place, future, e, state)
        else:
            o = self._direct(h, future, e)
        if self.linear is not None:
            B, C = z.shape[1:]
            more = self.linear(z.flatten(1).T).view(B, C, self.horizon, -1)
            o = o + more.permute(2, 0, 1, 3)
        return self._placed(o, place)

    @property
    def carries(self) -> bool:
        """Whether the encoder can go on from its state as more values come: what it reads of a
        value stays as it is, and its last output is all that is needed of it."""
        direct = not isinstance(self.decoder, Stack)
        return direct and self.level == "none" and not self.scaled and self.patch == 1

    def stream(self, batch_size: int) -> Stream:
        """The encoder, a step a call: see `from_stream`."""
        return self.encoder.stream(batch_size=batch_size)

    def from_stream(
        self, stream: Stream, y: Tensor, x: Tensor | None = None, series: Tensor | None = None
    ) -> Tensor:
        """Read y_T, the last of y, with a stream that has read all before it; what `forward`
        returns, but that the encoder has read from the beginning of the stream, not of y."""
        place, e = self._place(y), self._embedded(series, y)
        last = y[-1] if x is None else torch.cat((y[-1], x[self.context - 1]), dim=-1)
        h = stream(with_vector(last[None], e)[0])
        return self._said(h, None, place, y, x, e)

    def _place(self, y: Tensor) -> Place:
        return located(y, self.horizon, self.level, self.scaled, self.change_from, self.season)

    def forecast(
        self,
        y: Tensor,
        x: Tensor | None = None,
        series: Tensor | None = None,
        levels: Sequence[float] = (),
    ) -> "Forecast":
        """The next values, and their quantiles of these levels where the output has any."""
        o = self(y, x, series)
        return Forecast(self.output.point(o), self.output.quantiles(o, levels))

    def _direct(self, h: Tensor, future: Tensor | None, e: Tensor | None) -> Tensor:
        ahead = [] if future is None else [future.transpose(0, 1).flatten(1)]
        read = torch.cat([h, *ahead, *([] if e is None else [e])], dim=-1)
        o = self.head(self.dropout(self.decoder(self.dropout(read)).relu()))
        return o.view(len(h), self.horizon, self.channels, -1).transpose(0, 1)

    def _recurrent(
        self, place: Place, future: Tensor | None, e: Tensor | None, state: object
    ) -> Tensor:
        r = place.change_from
        step = torch.linspace(0, 1, self.horizon, dtype=r.dtype, device=r.device)
        fed = [r, step[:, None, None].expand(-1, r.shape[1], 1)]
        fed += [] if future is None else [future]
        g, _ = self.decoder(with_vector(torch.cat(fed, dim=-1), e), self.bridge(state))
        return self.head(self.dropout(g)).unflatten(-1, (self.channels, -1))

    def _placed(self, o: Tensor, place: Place) -> Tensor:
        level = place.level + place.scale * place.change_from
        return self.output.placed(o, level, place.scale.expand_as(level))

    def _patches(self, past: Tensor) -> Tensor:
        """[T, B, I] as [T / P, B, P I]."""
        T, B, I = past.shape
        together = past.view(T // self.patch, self.patch, B, I).transpose(1, 2)
        return together.reshape(T // self.patch, B, self.patch * I)

    def _embedded(self, series: Tensor | None, like: Tensor) -> Tensor | None:
        if self.series is None:
            return None
        if series is None:
            series = torch.zeros(like.shape[1], dtype=torch.int64, device=like.device)
        if self.training and self.unseen:
            series = series * (torch.rand(series.shape, device=series.device) >= self.unseen)
        return self.series(series)

    def _check(self, y: Tensor, x: Tensor | None) -> None:
        if y.dim() != 3 or y.shape[0] != self.context or y.shape[2] != self.channels:
            raise ShapeError(
                f"y must be [T, B, C] = [{self.context}, B, {self.channels}], got {list(y.shape)}"
            )
        wanted = [self.context + self.horizon, y.shape[1], self.covariates]
        if (x is None) != (not self.covariates) or (x is not None and list(x.shape) != wanted):
            got = None if x is None else list(x.shape)
            raise ShapeError(f"x must be [T + H, B, X] = {wanted}, got {got}")

    def loss(
        self,
        y: Tensor,
        target: Tensor,
        x: Tensor | None = None,
        series: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Loss:
        """The output's loss, summed over future values; their count.

        target: [H, B, C]. weight: of each of them, 0 for one that was not measured.
        """
        return summed(self.output.loss(self(y, x, series), target), weight)


class Forecast(NamedTuple):
    """point: [H, B, C]. quantiles: [H, B, C, Q]; None where the output has none."""

    point: Tensor
    quantiles: Tensor | None


def summed(each: Tensor, weight: Tensor | None) -> Loss:
    """The weighted sum of losses, and the sum of the weights."""
    if weight is None:
        return Loss(each.sum(), each.numel())
    return Loss((each * weight).sum(), weight.sum())


def located(
    y: Tensor, horizon: int, level: str, scaled: bool, change_from: str, season: int
) -> Place:
    """Where the window y [T, B, C] lies: see `Forecaster`."""
    zero = torch.zeros_like(y[0])
    a = {"last": y[-1], "mean": y.mean(0), "none": zero}[level]
    s = y.std(0, correction=0).clamp(min=1e-2) if scaled else torch.ones_like(zero)
    if change_from == "level":
        return Place(a, s, zero.expand(horizon, -1, -1))
    again = torch.arange(horizon, device=y.device) % season
    return Place(a, s, (y[len(y) - season + again] - a) / s)


def check_window(level: str, change_from: str, season: int, context: int) -> None:
    """Raise OptionError for what cannot be said of a window: see `Forecaster`."""
    if level not in LEVELS:
        raise unknown("level", level, LEVELS)
    if change_from not in CHANGES:
        raise unknown("change_from", change_from, CHANGES)
    if change_from == "season" and context < season:
        raise OptionError(
            f"a change from the season before needs a context of {season} steps or more, got "
            f"{context}"
        )


def with_vector(u: Tensor, e: Tensor | None) -> Tensor:
    """[N, B, I] with the vector e [B, E] at each step."""
    return u if e is None else torch.cat((u, e.expand(len(u), -1, -1)), dim=-1)


def _spread(bias: Tensor, output: Quantiles) -> None:
    """Quantiles begin as those of a normal distribution, not all at one place."""
    from statistics import NormalDist

    z = torch.tensor([NormalDist().inv_cdf(p) for p in output.levels])
    with torch.no_grad():
        bias.view(-1, output.size).copy_(0.5 * z.expand(bias.numel() // output.size, -1))
