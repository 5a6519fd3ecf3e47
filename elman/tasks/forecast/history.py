"""The ends of series, and what is said of the steps that follow."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.batch import Batch
from elman.data.series.frequency import written
from elman.data.series.panel import Panel, Unit
from elman.tasks.base.prediction import Prediction
from elman.tasks.forecast.processor import ForecastProcessor


@dataclass(frozen=True)
class History:
    """The end of a series, or of several that are read together, ready to be forecast from.

    units: their names and scales. times: of the H steps that follow. batch: the window, B = 1;
    None where there are too few steps, and left_out says so.
    """

    units: tuple[Unit, ...]
    times: tuple[str, ...] = ()
    batch: Batch | None = None
    left_out: str = ""


def histories(processor: ForecastProcessor, panel: Panel) -> Iterator[History]:
    """The series of a panel, each at its end."""
    windows = processor.windows_of(panel, [(0, block.history) for block in panel.blocks])
    for group, members in enumerate(windows.groups):
        units = tuple(panel.units[u] for u in members)
        block = panel.blocks[units[0].block]
        if block.history < windows.context:
            said = f"the series has {block.history} steps, and {windows.context} are read"
            yield History(units, left_out=said)
            continue
        origin = block.history
        batch = windows.at(np.array([group]), np.array([origin]))
        ahead = panel.times(block, np.arange(origin, origin + windows.horizon))
        yield History(units, tuple(written(ahead, panel.frequency)), batch)


def answer_of(
    history: History, point: NDArray[Any], spread: NDArray[Any], levels: tuple[float, ...]
) -> Prediction:
    """A forecast in the units of the file: rows of CSV, and a record."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    records = []
    for c, unit in enumerate(history.units):
        values = point[:, c] * unit.deviation + unit.mean
        ranges = spread[:, c] * unit.deviation + unit.mean
        for time, value, row in zip(history.times, values, ranges, strict=True):
            writer.writerow([time, unit.name, f"{value:.6g}", *(f"{q:.6g}" for q in row)])
        records.append(
            {
                "series": unit.name,
                "time": list(history.times),
                "forecast": values.tolist(),
                "quantiles": dict(zip(map(str, levels), ranges.T.tolist(), strict=True)),
            }
        )
    record = records[0] if len(records) == 1 else {"forecasts": records}
    return Prediction(out.getvalue().rstrip("\n"), record)
