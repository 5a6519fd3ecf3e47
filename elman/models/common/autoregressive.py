"""Series in, their next values out one after the other, each drawn given those before."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from elman.errors import OptionError, require_positive
from elman.layers.dropout import Dropout
from elman.layers.layer import map_state
from elman.models.common.encoder import StackOptions, build_stack
from elman.models.common.loss import Loss
from elman.models.series.distribution_head import Output, Quantiles
from elman.models.series.forecaster import Forecast, check_window, located, summed, with_vector


class AutoregressiveForecaster(nn.Module):
    """The distribution of each value given all before it (DeepAR).

        z_t = (y_t - a) / s                              a, s: see `Forecaster`
        h_t = stack([z_{t-1}, x_t, e])
        p(y_t | y_1 ... y_{t-1}) from a + s (V h_t + c)
        loss = -sum_{t > T} ln p(y_t | ...)              the true values are fed
        a path: y_{T+1}, y_{T+2} ... drawn one after the other, each fed to the next step

    y, x, series, channels, covariates, level, scaled, num_series, unseen: see `Forecaster`. What
    is said of the future are the quantiles of drawn paths, which hang together over the steps.
    num_samples: how many. The output "mean" feeds its own forecast and draws nothing.

    Raises OptionError, ShapeError. Source: Salinas et al. 2020.
    """

    def __init__(
        self,
        horizon: int,
        context: int,
        *,
        output: Output,
        channels: int = 1,
        covariates: int = 0,
        level: str = "last",
        scaled: bool = False,
        num_series: int = 0,
        series_size: int = 8,
        unseen: float = 0.02,
        num_samples: int = 100,
        hidden_size: int = 64,
        num_layers: int = 1,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        require_positive(
            horizon=horizon, context=context, channels=channels, num_samples=num_samples
        )
        check_window(level, "level", 1, context)
        if isinstance(output, Quantiles):
            raise OptionError(
                "an autoregressive decoder feeds what it draws: take the output normal, student, "
                "or mean, or another decoder"
            )
        self.horizon, self.context, self.channels = horizon, context, channels
        self.covariates, self.level, self.scaled = covariates, level, scaled
        self.output, self.unseen, self.num_samples = output, unseen, num_samples
        self.series = nn.Embedding(num_series + 1, series_size) if num_series else None
        read = channels + covariates + (series_size if num_series else 0)
        self.stack = build_stack(read, hidden_size, num_layers, **options)
        self.dropout = Dropout(options.get("dropout", 0.0))
        self.head = nn.Linear(hidden_size, channels * output.size)

    def loss(
        self,
        y: Tensor,
        target: Tensor,
        x: Tensor | None = None,
        series: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Loss:
        """The output's loss, summed over future values; their count: see `Forecaster.loss`."""
        place = located(y, 1, self.level, self.scaled, "level", 1)
        z = (torch.cat((y, target)) - place.level) / place.scale
        hidden, _ = self.stack(self._fed(z[:-1], None if x is None else x[1:], series))
        o = self._said(hidden[-self.horizon :])
        placed = self._placed(o, place.level, place.scale)
        return summed(self.output.loss(placed, target), weight)

    def forecast(
        self,
        y: Tensor,
        x: Tensor | None = None,
        series: Tensor | None = None,
        levels: Sequence[float] = (),
        generator: torch.Generator | None = None,
    ) -> Forecast:
        """The mean of drawn paths, and their quantiles of these levels."""
        drawn = self.draw(y, x, series, generator=generator)
        if len(drawn) == 1:
            return Forecast(drawn[0], None)
        q = torch.tensor(list(levels), dtype=drawn.dtype, device=drawn.device)
        spread = torch.quantile(drawn, q, dim=0).movedim(0, -1) if levels else None
        return Forecast(drawn.mean(0), spread)

    @torch.no_grad()
    def draw(
        self,
        y: Tensor,
        x: Tensor | None = None,
        series: Tensor | None = None,
        num_samples: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """[P, H, B, C]: paths, each drawn as a whole; one where nothing is drawn."""
        many = 1 if self.output.size == 1 else num_samples or self.num_samples
        B, T, H = y.shape[1], self.context, self.horizon

        def each(part: Tensor) -> Tensor:
            """[..., B, S] with each row once for each path."""
            return part.repeat_interleave(many, dim=-2)

        place = located(y, 1, self.level, self.scaled, "level", 1)
        z = (y - place.level) / place.scale
        _, state = self.stack(self._fed(z[:-1], None if x is None else x[1:T], series))
        state = map_state(each, state)
        level, scale, last = each(place.level), each(place.scale), each(z[-1])
        future = None if x is None else each(x[T:])
        who = None if series is None else series.repeat_interleave(many)
        stream = self.stack.stream(state, batch_size=B * many)
        found = []
        for step in range(H):
            ahead = None if future is None else future[step : step + 1]
            said = self._said(stream(self._fed(last[None], ahead, who)[0]))
            found.append(self.output.draw(self._placed(said, level, scale), generator))
            last = (found[-1] - level) / scale
        return torch.stack(found).view(H, B, many, -1).permute(2, 0, 1, 3)

    def _fed(self, z: Tensor, x: Tensor | None, series: Tensor | None) -> Tensor:
        """What the stack reads of values one step before and covariates of the step itself."""
        u = z if x is None else torch.cat((z, x), dim=-1)
        if self.series is None:
            return u
        if series is None:
            series = torch.zeros(z.shape[1], dtype=torch.int64, device=z.device)
        if self.training and self.unseen:
            series = series * (torch.rand(series.shape, device=series.device) >= self.unseen)
        return with_vector(u, self.series(series))

    def _said(self, hidden: Tensor) -> Tensor:
        return self.head(self.dropout(hidden)).unflatten(-1, (self.channels, -1))

    def _placed(self, o: Tensor, level: Tensor, scale: Tensor) -> Tensor:
        return self.output.placed(o, level.expand(o.shape[:-1]), scale.expand(o.shape[:-1]))
