"""forecasts.png: forecasts from some moments of the test part, beside the observed values."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elman.data.core.files import written_aside
from elman.data.series.windows import Windows
from elman.tasks.forecast.backtest import NAIVE, naive
from elman.tasks.forecast.predictor import ForecastPredictor

#: So many forecasts are drawn, of so many series at most.
PICTURES = 6


def draw_forecasts(path: Path, trained: ForecastPredictor) -> None:
    """History, truth, the fan of quantiles and the seasonal naive forecast."""
    from matplotlib.figure import Figure

    windows = trained.processor.windows("test")
    chosen = chosen_windows(windows)
    columns = min(len(chosen), 2)
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(6.2 * columns, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, one in zip(chosen, axes, strict=False):
        _draw(one, trained, windows, index)
    for one in axes[len(chosen) :]:
        one.set_axis_off()
    axes[0].legend(fontsize=7, loc="upper left")
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=110, format="png")


def chosen_windows(windows: Windows) -> list[int]:
    """A few windows: of many series the last of each, of few several moments of each."""
    groups = np.flatnonzero(windows.counts > 0)[:PICTURES]
    each = max(PICTURES // len(groups), 1)
    ends = np.cumsum(windows.counts)
    found = []
    for group in groups:
        count, begin = int(windows.counts[group]), int(ends[group] - windows.counts[group])
        # The last ones, a horizon apart or more.
        apart = max(windows.horizon // windows.stride, (count - 1) // each, 1)
        places = [count - 1 - apart * k for k in range(each) if count - 1 - apart * k >= 0]
        found += [begin + place for place in reversed(places)]
    return found


def _draw(axes: Any, trained: ForecastPredictor, windows: Windows, index: int) -> None:
    panel, shape = windows.panel, trained.processor.shape
    group, origin = (int(a[0]) for a in windows.places(np.array([index])))
    batch = windows.batch(np.array([index]))
    levels = trained.options.levels
    with torch.inference_mode():
        found = trained.forecasting()(batch, levels)
    unit = panel.units[windows.groups[group][0]]
    block = panel.blocks[unit.block]
    shown = min(windows.context, max(3 * windows.horizon, 2 * shape.season))

    def back(values: Any) -> NDArray[np.float64]:
        return np.asarray(values[:, 0, 0], dtype=np.float64) * unit.deviation + unit.mean

    past = panel.times(block, np.arange(origin - shown, origin))
    ahead = panel.times(block, np.arange(origin, origin + windows.horizon))
    if panel.frequency.unit != "step":
        past, ahead = past.astype("datetime64[us]"), ahead.astype("datetime64[us]")
    t = batch.tensors
    axes.plot(past, back(t["y"])[-shown:], color="black", linewidth=0.9)
    axes.plot(ahead, back(t["target"]), color="black", linewidth=1.2, label="observed")
    again = naive(batch)[NAIVE[1]]
    axes.plot(ahead, back(again), color="C7", linestyle="--", linewidth=1, label=NAIVE[1])
    if found.quantiles is not None:
        spread = [back(found.quantiles[..., q]) for q in range(len(levels))]
        share = f"{100 * (levels[-1] - levels[0]):.0f} %"
        for q in range(len(levels) // 2):
            label = f"{share} prediction interval" if q == 0 else None
            axes.fill_between(
                ahead, spread[q], spread[-1 - q], color="C0", alpha=0.2, linewidth=0, label=label
            )
    axes.plot(ahead, back(found.point), color="C0", linewidth=1.4, label="predicted")
    axes.set_title(unit.name.replace("$", r"\$"), fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
