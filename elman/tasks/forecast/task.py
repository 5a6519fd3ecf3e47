"""`elman train forecast`: series in, their next values out."""

import csv
import io
import shlex
from typing import Any

import torch
from rich.console import Console
from torch import nn

from elman.cells import Cell
from elman.data.core.batch import Batches
from elman.data.core.files import remove, write_json, write_text
from elman.data.series.frequency import frequency_named
from elman.data.series.panel import PARTS
from elman.data.series.windows import WindowBatches
from elman.data.text.corpus import ProgressCallback
from elman.models.common.autoregressive import AutoregressiveForecaster
from elman.models.series.distribution_head import output_named
from elman.models.series.forecaster import Forecaster
from elman.tasks.base.scoring import ScoredTask
from elman.tasks.forecast.backtest import Backtest
from elman.tasks.forecast.options import ForecastOptions, Shape
from elman.tasks.forecast.plots import draw_forecasts
from elman.tasks.forecast.predictor import ForecastPredictor
from elman.tasks.forecast.processor import ForecastProcessor
from elman.train.custom_cell import cell_class
from elman.train.progress import reported

#: A pass over little data is repeated until it has so many batches.
LEAST_BATCHES = 50
#: Windows whose errors say how wide a point forecast may be off.
RESIDUAL_WINDOWS = 1 << 13


class Forecasting(ScoredTask[ForecastOptions]):
    """Series of numbers over time, and what comes next."""

    name = "forecast"
    title = "a forecaster"
    help = """Train a forecaster of time series.

    [bold]elman train forecast[/]                                yearly sunspots
    [bold]elman train forecast load.csv --horizon 24[/]          a time column, a column each series
    [bold]elman train forecast sales.parquet[/]                  or in rows: time, series, value
    [bold]elman train forecast load.csv --target kw --future-covariates temperature[/]
    [bold]elman train forecast load.csv --decoder autoregressive --output student[/]
    """
    files_help = (
        "CSV, TSV, JSONL, parquet: a time, and a column for each series; or a time, a series and a "
        "value in each row. [dim]default: sunspots[/]"
    )
    options_type = ForecastOptions
    processor_type = ForecastProcessor
    processor: ForecastProcessor
    predictor_type = ForecastPredictor
    unit = "window"

    @classmethod
    def check(cls, options: ForecastOptions, files: list[str]) -> None:
        super().check(options, files)
        if options.frequency is not None:
            frequency_named(options.frequency, 0)
        patch = options.patch or 1
        context = -(-(options.context or 8) // patch) * patch
        shape = Shape(1, max(context, patch), patch, 1, ())
        _model(options, shape, 1, 0, 1, cell_class(options.cell))

    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        return self.processor.fit(report)

    def batches(self) -> tuple[Batches, Batches]:
        o, p = self.options, self.processor
        train = WindowBatches(p.windows("train"), o.batch_size, seed=o.seed, least=LEAST_BATCHES)
        return train, p.in_order(p.thinned("valid"))

    def build(self, cell: type[Cell]) -> nn.Module:
        panel, shape = self.processor.panel, self.processor.shape
        columns = {unit.column for unit in panel.units}
        channels = len(columns) if self.options.joint else 1
        covariates = 2 * len(shape.cycles) + len(panel.covariates)
        return _model(self.options, shape, channels, covariates, len(panel.units), cell)

    def summary(self) -> str:
        fact, s = self.processor.fact, self.processor.shape
        windows, skipped = fact("windows", dict[str, int]), fact("skipped", str)
        counts = ", ".join(f"{windows[part]:,} {part}" for part in PARTS if part in windows)
        notes = f"left out or mended: {skipped}\n" if skipped else ""
        told = f", told {', '.join(s.cycles)}" if s.cycles else ""
        return (
            f"{fact('about', str)}\n{notes}{fact('series', int):,} series, "
            f"{fact('frequency', str)}, season {s.season}{told}; {s.context} steps"
            + (f" by {s.patch}" if s.patch > 1 else "")
            + f" to {s.horizon}; {counts} windows"
        )

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained = self.load(cell)
        with reported(console) as report:
            self._keep_errors(trained)
            windows = self.processor.thinned("test")
            backtest = trained.backtest(windows, report)
        scores = trained.scored(backtest, "test", windows)
        self.keep_scores(scores, console)
        self._keep_steps(backtest)
        draw_forecasts(self.run.folder / "forecasts.png", trained)
        self.point_to(
            console,
            "forecasts.png",
            "backtest.csv",
            uses=[f"predict RUN --file {shlex.quote(str(self.processor.tables[0]))}"],
        )

    def _keep_errors(self, trained: ForecastPredictor) -> None:
        """errors.json: the quantiles of a point forecast's errors in validation, step by step."""
        path, processor = self.processor.errors_file, self.processor
        remove(path)
        if trained.model.output.size > 1:
            return
        stride = -(-len(processor.windows("valid")) // RESIDUAL_WINDOWS)
        batches = processor.in_order(processor.windows("valid", stride))
        forecast, errors = trained.forecasting(), []
        for number in range(len(batches)):
            batch = batches.batch(number)
            with torch.inference_mode():
                error = batch.tensors["target"] - forecast(batch, ()).point
            errors.append(error.flatten(1))
        levels = torch.tensor(self.options.levels, dtype=torch.float64)
        found = torch.quantile(torch.cat(errors, dim=1).double(), levels, dim=1).T
        write_json(path, {"levels": list(self.options.levels), "quantiles": found.tolist()})

    def _keep_steps(self, backtest: Backtest) -> None:
        """backtest.csv: the mean squared error of each step ahead."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["step", *(f"mse_{name.replace(' ', '_')}" for name in backtest.by_step)])
        steps = zip(*backtest.by_step.values(), strict=True)
        writer.writerows([h, *(f"{v:.6g}" for v in row)] for h, row in enumerate(steps, 1))
        write_text(self.run.folder / "backtest.csv", out.getvalue())


def _model(
    options: ForecastOptions,
    shape: Shape,
    channels: int,
    covariates: int,
    series: int,
    cell: type[Cell],
) -> nn.Module:
    o = options
    size = o.embedding or 0
    given: dict[str, Any] = {
        "output": output_named(o.output, o.levels),
        "channels": channels,
        "covariates": covariates,
        "level": o.level,
        "scaled": o.scaled,
        "num_series": series if series > 1 and size and not o.joint else 0,
        "series_size": size,
        "hidden_size": o.hidden,
        "num_layers": o.layers,
        **o.stack(cell),
    }
    if o.decoder == "autoregressive":
        return AutoregressiveForecaster(
            shape.horizon, shape.context, num_samples=o.num_samples, **given
        )
    return Forecaster(
        shape.horizon,
        shape.context,
        decoder=o.decoder,
        patch=shape.patch,
        change_from=o.change_from,
        season=shape.season,
        linear=o.linear,
        **given,
    )
