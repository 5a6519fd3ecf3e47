"""A forecast after each row of a stream."""

import csv
from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.data.core.batch import Batch
from elman.data.series.frequency import Frequency, calendar, written
from elman.data.series.panel_roles import numbers
from elman.data.series.times import TimeFormat
from elman.errors import DataError, OptionError
from elman.models.series.forecaster import Forecast, Forecaster
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.streaming import Lines
from elman.tasks.forecast.backtest import forecasting
from elman.tasks.forecast.history import History, answer_of
from elman.tasks.forecast.processor import ForecastProcessor


class RowStream(Lines):
    """A forecast after each row.

    A row is a line of CSV: the time, the series in long form, the values to forecast, those that
    are observed; or whatever columns a first line names, these among them. A missing value is the
    one before. Where windows have no level and no scale of their own and patches have one step,
    the state of the layers is carried from row to row; else the last T rows are kept and read
    anew, as the level of all of them is another after each row.
    """

    def __init__(self, model: Any, processor: ForecastProcessor) -> None:
        self.model, self.processor = model, processor
        roles, options = processor.panel.roles, processor.options
        if roles.future_covariates:
            raise OptionError(
                f"{processor.run.folder}: a stream does not know the future of "
                f"{', '.join(roles.future_covariates)}; give a file: --file"
            )
        given = [roles.time, roles.series, *roles.numbers]
        self.columns = [name for name in given if name is not None]
        self.roles, self.options = roles, options
        self.series: dict[str, _Running] = {}
        self.form: TimeFormat | None = None
        self.line = 0

    def __call__(self, piece: str) -> Prediction | None:
        self.line += 1
        delimiter = self.options.delimiter or ("\t" if "\t" in piece else ",")
        cells = [cell.strip() for cell in next(csv.reader([piece], delimiter=delimiter))]
        if not self.series and set(self.columns) <= set(cells):
            self.columns = cells
            return None
        where = f"standard input, line {self.line}"
        if len(cells) != len(self.columns):
            raise DataError(f"{where}: has {len(cells)} values; expected {', '.join(self.columns)}")
        row = dict(zip(self.columns, cells, strict=True))
        key = row[self.roles.series] if self.roles.series else ""
        time = self._time(row, where)
        values = np.array(
            [numbers([row[n]], n, [where], self.roles.comma)[0] for n in self.roles.numbers]
        )
        if key not in self.series:
            self.series[key] = _Running(self.model, self.processor, key, time)
        return self.series[key](time, values, where)

    def end(self) -> Prediction | None:
        """The next row begins other series."""
        self.series, self.form = {}, None
        return None

    def _time(self, row: dict[str, str], where: str) -> int | None:
        if self.roles.time is None:
            return None
        text = row[self.roles.time]
        if self.form is None:
            self.form = TimeFormat.of([text], usual=self.roles.time_format)
        if self.form is None:
            raise DataError(f"{where}: '{text[:40]}' is no time")
        return int(self.form([text], [where])[0])


class _Running:
    """The columns of one key in a stream: their last T rows, or the state of the layers."""

    def __init__(
        self, model: Any, processor: ForecastProcessor, key: str, time: int | None
    ) -> None:
        panel, shape, options = processor.panel, processor.shape, processor.options
        roles = panel.roles
        names = [key if len(roles.targets) == 1 else f"{key} {t}" for t in roles.targets]
        names = names if roles.series else list(roles.targets)
        known = {unit.name: unit for unit in panel.units}
        self.places = [c for c, name in enumerate(names) if name in known]
        if not self.places:
            raise DataError(
                f"series '{key}' was not in the training; elman predict --file takes it"
            )
        self.units = tuple(known[names[c]] for c in self.places)
        self.frequency: Frequency = panel.frequency.from_time(time or 0)
        self.shape, self.scale = shape, panel.covariate_scale
        self.targets = len(roles.targets)
        self.rows: deque[NDArray[np.float64]] = deque(maxlen=shape.context)
        self.index = -1
        self.joint, self.levels = options.joint, options.levels
        self.forecasting = forecasting(model, processor)
        ids = [0] if self.joint else [unit.number for unit in self.units]
        self.series = torch.tensor(ids)
        carried = isinstance(model, Forecaster) and model.carries
        self.model, self.stream = model, model.stream(len(ids)) if carried else None
        self.spread = processor.spread()

    def __call__(self, time: int | None, values: NDArray[Any], where: str) -> Prediction | None:
        index = self.index + 1
        if time is not None:
            index = int(self.frequency.index(np.array([time]))[0])
        if index <= self.index:
            raise DataError(f"{where}: its time is not after that of the row before")
        before = self.rows[-1] if self.rows else np.zeros_like(values)
        # Steps without a row.
        while self.rows and self.index + 1 < index:
            self.index += 1
            self._read(before)
        self.index = index
        found = self._read(np.where(np.isnan(values), before, values))
        return self._answer(found) if len(self.rows) == self.shape.context else None

    def _read(self, values: NDArray[np.float64]) -> Forecast | None:
        """Take in one more step; the forecast after it, where enough are known."""
        self.rows.append(values)
        whole = len(self.rows) == self.shape.context
        if self.stream is None:
            return self.forecasting(Batch(self._tensors()), self.levels) if whole else None
        t = self._tensors()
        o = self.model.from_stream(self.stream, t["y"], t.get("x"), t["series"])
        output = self.model.output
        return self.spread(Forecast(output.point(o), output.quantiles(o, self.levels)))

    def _tensors(self) -> dict[str, Tensor]:
        """The window that ends here; before the first row stands the first row."""
        y, x = self._window()
        tensors = {"y": y[:, None] if self.joint else y[:, :, None], "series": self.series}
        if x is not None:
            tensors["x"] = x[:, None].expand(-1, len(self.series), -1)
        return tensors

    def _answer(self, found: Forecast | None) -> Prediction:
        assert found is not None and found.quantiles is not None
        H = self.shape.horizon
        point = found.point.reshape(H, -1).numpy()
        spread = found.quantiles.reshape(H, len(self.units), -1).numpy()
        ahead = self.frequency.times(np.arange(self.index + 1, self.index + 1 + H))
        history = History(self.units, tuple(written(ahead, self.frequency)))
        answer = answer_of(history, point, spread, self.levels)
        # A line for each series: the next step; the record holds all steps.
        return Prediction("\n".join(answer.text.splitlines()[::H]), answer.record)

    def _window(self) -> tuple[Tensor, Tensor | None]:
        missing = self.shape.context - len(self.rows)
        rows = np.stack([*([self.rows[0]] * missing), *self.rows])
        mean = np.array([unit.mean for unit in self.units])
        deviation = np.array([unit.deviation for unit in self.units])
        y = torch.from_numpy(((rows[:, self.places] - mean) / deviation).astype(np.float32))
        T, H = self.shape.context, self.shape.horizon
        parts = []
        if self.shape.cycles:
            steps = np.arange(self.index + 1 - T, self.index + 1 + H)
            parts.append(calendar(self.frequency.times(steps), self.shape.cycles))
        if self.scale:
            m, d = np.array(self.scale).T
            own = ((rows[:, self.targets :] - m) / d).astype(np.float32)
            parts.append(np.concatenate((own, np.zeros((H, own.shape[1]), np.float32))))
        return y, torch.from_numpy(np.concatenate(parts, axis=1)) if parts else None
