"""A trained forecaster: what comes after the end of a file, and after each row of a stream."""

import csv
import io
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elman.data.core.batch import Batch
from elman.data.core.records import SkipLog
from elman.data.series.frequency import written
from elman.data.series.panel import Panel, Unit
from elman.data.text.corpus import ProgressCallback
from elman.errors import OptionError
from elman.tasks.base.examples import batched
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.predictor import Predictor
from elman.tasks.base.streaming import Streaming
from elman.tasks.forecast.task import Forecasting


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


@dataclass(frozen=True)
class ForecastPredictor(Predictor):
    """A trained forecaster."""

    task: Forecasting

    def read_inputs(self, file: str | Path) -> Iterator[History]:
        """The series in a file, each at its end."""
        with tempfile.TemporaryDirectory(prefix="elman-") as folder:
            skipped = SkipLog()
            panel = self.task.other([str(file)], Path(folder) / "panel", skipped, _quiet)
            if skipped.total:
                warnings.warn(f"{file}: {skipped}", stacklevel=2)
            yield from histories(self.task, panel)

    def parse(self, text: str) -> Any:
        raise OptionError(
            f"{self.run.folder}: series are read from files, with their times: elman predict "
            f"{self.run.folder} --file new.csv; or row by row: --stream"
        )

    def predict(self, inputs: Iterable[History], *, batch_size: int = 64) -> Iterator[Prediction]:
        """The forecast after each history, with its times, in the units of the file."""
        header = ",".join(["time", "series", "forecast", *map(str, self.options.levels)])
        for several in batched(inputs, batch_size):
            found = iter(self._forecasts([h for h in several if h.batch is not None]))
            for history in several:
                if history.batch is None:
                    yield Prediction("", {"left_out": history.left_out})
                    continue
                answer = answer_of(history, *next(found), self.options.levels)
                text = f"{header}\n{answer.text}" if header else answer.text
                header = ""
                yield Prediction(text, answer.record)

    def _forecasts(
        self, histories: Sequence[History]
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """[H, C] and [H, C, Q] of each, standardised."""
        if not histories:
            return
        batches = [history.batch.tensors for history in histories if history.batch is not None]
        whole = Batch(
            {
                name: torch.cat([t[name] for t in batches], dim=0 if name == "series" else 1)
                for name in batches[0]
                if name in ("y", "target", "x", "series")
            }
        )
        with torch.inference_mode():
            found = self.task.forecasting(self.model)(whole, self.options.levels)
        assert found.quantiles is not None
        for b in range(len(histories)):
            yield found.point[:, b].numpy(), found.quantiles[:, b].numpy()

    def evaluate(self, files: Any = (), report: ProgressCallback | None = None) -> dict[str, Any]:
        """A rolling backtest over files like those trained on; over the run's own test part where
        there are none. Raises DataError."""
        given = [files] if isinstance(files, str | Path) else files
        if not given:
            windows = self.task.thinned("test")
            backtest = self.task.backtest(self.model, windows, report)
            return self.task.scored(backtest, "test", windows)
        return self.task.score_files(self.model, [str(f) for f in given], report or _quiet)

    def stream(self) -> Streaming:
        """Rows one by one: after each the forecast of the steps that follow."""
        from elman.tasks.forecast.stream import RowStream

        return RowStream(self)


def histories(task: Forecasting, panel: Panel) -> Iterator[History]:
    """The series of a panel, each at its end."""
    windows = task.windows_of(panel, [(0, block.history) for block in panel.blocks])
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


def _quiet(what: str, done: int, total: int) -> None:
    pass
