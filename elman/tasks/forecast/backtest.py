"""Forecasts from many past moments, beside the observed values and forecasts without a model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.data.core.batch import Batch
from elman.data.series.windows import WindowBatches
from elman.data.text.corpus import ProgressCallback
from elman.models.common.sampling import seeded
from elman.models.series.forecaster import Forecast
from elman.tasks.forecast.processor import ForecastProcessor

#: What needs no model.
NAIVE = ("last value", "seasonal naive")
#: A forecaster: (batch, levels) -> `Forecast`.
Forecasting = Callable[[Batch, tuple[float, ...]], Forecast]


def forecasting(model: Any, processor: ForecastProcessor) -> Forecasting:
    """The forecasts of a model; the quantiles of a point are those of its errors."""
    spread = processor.spread()
    generator = seeded(processor.options.seed)

    def forecast(batch: Batch, levels: tuple[float, ...]) -> Forecast:
        t = batch.tensors
        more = {"generator": generator} if hasattr(model, "num_samples") else {}
        return spread(model.forecast(t["y"], t.get("x"), t["series"], levels, **more))

    return forecast


def naive(batch: Batch) -> dict[str, Tensor]:
    """[H, B, C]: the last value again and again, and the values one season before."""
    t = batch.tensors
    last = t["y"][-1:].expand(len(t["target"]), -1, -1)
    return dict(zip(NAIVE, (last, t["season_before"]), strict=True))


def error_sums(point: Tensor, batch: Batch) -> dict[str, Tensor]:
    """[H] sums over windows and series: squared, absolute and scaled errors, and the weights.

    scaled: the absolute error over that of the seasonal naive forecast of one step on the training
    part; its mean is MASE (Hyndman & Koehler 2006).
    """
    t = batch.tensors
    error = point - t["target"]
    weight = t["weight"] if "weight" in t else torch.ones_like(error)
    absolute = error.abs() * weight
    sums = {
        "squared": error.square() * weight,
        "absolute": absolute,
        "scaled": absolute / t["naive_error"],
        "count": weight,
    }
    return {name: value.double().sum((1, 2)) for name, value in sums.items()}


def error_scores(sums: dict[str, Any]) -> dict[str, float]:
    """mse and mae of standardised values, and mase, of sums over all steps."""
    count = max(float(sums["count"].sum()), 1.0)
    names = {"mse": "squared", "mae": "absolute", "mase": "scaled"}
    return {score: float(sums[name].sum()) / count for score, name in names.items()}


class Backtest:
    """The errors of a forecaster and of the naive ones over all windows of a pass.

    scores: of the forecaster; where it has quantiles, also the share of observed values between
    the outermost, as coverage, and the share that ought to. beside: of each naive forecast.
    by_step: {name: [H] mean squared errors}.
    """

    def __init__(
        self,
        forecasting: Forecasting,
        batches: WindowBatches,
        levels: tuple[float, ...],
        report: ProgressCallback | None = None,
    ) -> None:
        sums: dict[str, dict[str, Tensor]] = {}
        inside = 0.0
        for number in range(len(batches)):
            batch = batches.batch(number)
            with torch.inference_mode():
                found = forecasting(batch, levels)
            t = batch.tensors
            points = {"model": found.point, **naive(batch)}
            for name, point in points.items():
                for key, value in error_sums(point, batch).items():
                    own = sums.setdefault(name, {})
                    own[key] = own[key] + value if key in own else value
            if found.quantiles is not None:
                low, high = found.quantiles[..., 0], found.quantiles[..., -1]
                within = (low <= t["target"]) & (t["target"] <= high)
                weight = t.get("weight")
                inside += float((within if weight is None else within * weight).sum())
            if report is not None:
                report("evaluating", number + 1, len(batches))
        self.scores = error_scores(sums["model"])
        if found.quantiles is not None:
            count = max(float(sums["model"]["count"].sum()), 1.0)
            self.scores["coverage"] = inside / count
            self.scores["coverage_wanted"] = levels[-1] - levels[0]
        self.beside = {name: error_scores(sums[name]) for name in NAIVE}
        self.by_step: dict[str, NDArray[np.float64]] = {
            name: (own["squared"] / own["count"].clamp(min=1)).numpy() for name, own in sums.items()
        }
