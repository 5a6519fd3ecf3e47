"""`elman train forecast`: series in, their next values out."""

import csv
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from elman.cells import Cell
from elman.data.core.batch import Batch, Batches
from elman.data.core.files import loaded, remove, write_json, write_text
from elman.data.core.records import SkipLog
from elman.data.core.typed import as_type
from elman.data.embedded import embedded_file
from elman.data.series.frequency import frequency_named
from elman.data.series.panel import PARTS, Panel
from elman.data.series.panel_files import Learnt, write_panel
from elman.data.series.panel_rows import PanelRows
from elman.data.series.windows import WindowBatches, Windows
from elman.data.text.corpus import ProgressCallback
from elman.errors import DataError
from elman.models.common.autoregressive import AutoregressiveForecaster
from elman.models.common.loss import Loss
from elman.models.series.distribution_head import output_named
from elman.models.series.forecaster import Forecast, Forecaster
from elman.tasks.base.scoring import ScoredTask
from elman.tasks.forecast.backtest import NAIVE, Backtest, error_scores, error_sums
from elman.tasks.forecast.options import SUNSPOTS, ForecastOptions, Shape
from elman.train.custom_cell import cell_class
from elman.train.progress import reported
from elman.train.run import Run

#: A pass over little data is repeated until it has so many batches.
LEAST_BATCHES = 50
#: Where a part has more windows than this, every so many-th is taken.
MOST_WINDOWS = {"valid": 1 << 15, "test": 1 << 17}
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
    unit = "window"

    def __init__(self, run: Run, options: ForecastOptions) -> None:
        super().__init__(run, options)
        self._prepared: dict[str, Any] | None = None
        self._panel: Panel | None = None
        self._shape: Shape | None = None
        name = output_named(options.output, options.levels).loss_name
        self.loss_name = self.criterion = name  # type: ignore[misc]

    # From files to windows

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
        o, skipped = self.options, SkipLog()
        rows = PanelRows(self._files, named=o.named, **o.table)
        season = o.season or (None if self.files else SUNSPOTS[o.sunspots])
        panel = write_panel(self._folder, rows, o.rules(season), skipped, report, cuts=o.cuts)
        self._panel = panel
        training = max(block.cuts[0] for block in panel.blocks)
        shape = Shape.of(o, panel.frequency, season or panel.frequency.season, training)
        about = {"about": rows.about, "skipped": str(skipped), "shape": shape.to_json()}
        self._prepared = {**about, "series": len(panel.units), "frequency": panel.frequency.name}
        windows = {part: self.windows(part) for part in PARTS}
        for part, found in windows.items():
            if not len(found):
                raise self._too_short(part, shape)
        counts = {part: len(found) for part, found in windows.items()}
        short = int((windows["train"].counts == 0).sum())
        if short:
            skipped.add(
                f"series with too few steps to train on ({shape.context} are read, "
                f"{shape.horizon} forecast)",
                rows.about,
                short,
            )
            self._prepared["skipped"] = str(skipped)
        self._prepared["windows"] = counts
        return self._prepared

    def _too_short(self, part: str, shape: Shape) -> DataError:
        panel = self.panel
        begin, end = max((b.part(part) for b in panel.blocks), key=lambda p: p[1] - p[0])
        needs = shape.horizon + (shape.context if part == "train" else 0)
        return DataError(
            f"{self.found['about']}: the {part} part has {end - begin} steps at most, and needs "
            f"{needs} ({shape.horizon} to forecast"
            + (f", {shape.context} to read before them" if part == "train" else "")
            + "); take a smaller --horizon"
            + (" or --context" if part == "train" else f", or a larger --{part}-fraction")
        )

    @property
    def _files(self) -> list[str]:
        return self.files or [embedded_file(f"sunspots.{self.options.sunspots}.csv.gz")]

    @property
    def _folder(self) -> Path:
        return self.run.folder / "data" / "panel"

    @property
    def found(self) -> dict[str, Any]:
        return self._prepared or super().found

    @property
    def shape(self) -> Shape:
        """The steps of a window."""
        if self._shape is None:
            self._shape = Shape.from_json(self.found["shape"])
        return self._shape

    @property
    def panel(self) -> Panel:
        """The series of the run."""
        if self._panel is None:
            self._panel = Panel.open(self._folder)
        return self._panel

    def windows(self, part: str, stride: int = 1) -> Windows:
        """The windows of a part."""
        panel = self.panel
        return self.windows_of(panel, [block.part(part) for block in panel.blocks], stride)

    def windows_of(self, panel: Panel, parts: list[tuple[int, int]], stride: int = 1) -> Windows:
        """The windows of some rows of a panel, as the model reads them."""
        s, o = self.shape, self.options
        how: dict[str, Any] = {"cycles": s.cycles, "season": s.season, "stride": stride}
        return Windows(panel, s.context, s.horizon, parts, joint=o.joint, **how)

    def batches(self) -> tuple[Batches, Batches]:
        o = self.options
        train = WindowBatches(self.windows("train"), o.batch_size, seed=o.seed, least=LEAST_BATCHES)
        return train, self.in_order(self.thinned("valid"))

    def thinned(self, part: str) -> Windows:
        """The windows of a part, so far apart that they are not too many."""
        return self.windows(part, -(-len(self.windows(part)) // MOST_WINDOWS[part]))

    def in_order(self, windows: Windows) -> WindowBatches:
        """All windows, one after the other."""
        return WindowBatches(windows, max(self.options.batch_size, 256), shuffle=False)

    def build(self, cell: type[Cell]) -> nn.Module:
        panel = self.panel
        columns = {unit.column for unit in panel.units}
        channels = len(columns) if self.options.joint else 1
        covariates = 2 * len(self.shape.cycles) + len(panel.covariates)
        return _model(self.options, self.shape, channels, covariates, len(panel.units), cell)

    def summary(self) -> str:
        f, s = self.found, self.shape
        counts = ", ".join(f"{f['windows'][part]:,} {part}" for part in PARTS)
        notes = f"left out or mended: {f['skipped']}\n" if f["skipped"] else ""
        told = f", told {', '.join(s.cycles)}" if s.cycles else ""
        return (
            f"{f['about']}\n{notes}{f['series']:,} series, {f['frequency']}, season {s.season}"
            f"{told}; {s.context} steps"
            + (f" by {s.patch}" if s.patch > 1 else "")
            + f" to {s.horizon}; {counts} windows"
        )

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        return model.loss(**_read(batch))

    def measure(self, model: Any, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        if isinstance(model, AutoregressiveForecaster):
            return super().measure(model, batch, state)
        t = batch.tensors
        o = model(t["y"], t.get("x"), t["series"])
        each = model.output.loss(o, t["target"])
        weight = t.get("weight", torch.ones_like(each))
        sums = {"total": float((each * weight).sum()), "count": float(weight.sum())}
        errors = error_sums(model.output.point(o), batch)
        return {**sums, **{f"error_{k}": float(v.sum()) for k, v in errors.items()}}, None

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        errors = {
            name.removeprefix("error_"): np.float64(value)
            for name, value in sums.items()
            if name.startswith("error_")
        }
        found = error_scores(errors) if errors else {}
        return {**super().scores(sums), **{k: v for k, v in found.items() if k != "mae"}}

    def backtest(
        self, model: Any, windows: Windows, report: ProgressCallback | None = None
    ) -> Backtest:
        """Forecast from each window, beside the observed values."""
        model.eval()
        batches = self.in_order(windows)
        return Backtest(self.forecasting(model), batches, self.options.levels, report)

    def forecasting(self, model: Any) -> Any:
        """(batch, levels) -> `Forecast`; the quantiles of a point are those of its errors."""
        spread = self.spread()
        generator = torch.Generator().manual_seed(self.options.seed)

        def forecast(batch: Batch, levels: tuple[float, ...]) -> Forecast:
            t = batch.tensors
            more = {"generator": generator} if hasattr(model, "num_samples") else {}
            return spread(model.forecast(t["y"], t.get("x"), t["series"], levels, **more))

        return forecast

    def spread(self) -> Callable[[Forecast], Forecast]:
        """Gives a point forecast the quantiles that its errors had in validation."""
        path = self.run.folder / "errors.json"
        errors = self._errors(path) if path.is_file() else None

        def given(found: Forecast) -> Forecast:
            if found.quantiles is not None or errors is None:
                return found
            off = torch.tensor(errors, dtype=found.point.dtype)
            return Forecast(found.point, found.point[..., None] + off[:, None, None])

        return given

    def _errors(self, path: Path) -> list[list[float]]:
        """[horizon][levels] of errors.json."""
        wanted = self.shape.horizon, len(self.options.levels)

        def quantiles(value: Any) -> list[list[float]]:
            found = as_type(list[list[float]], value["quantiles"], "quantiles")
            if len(found) != wanted[0] or any(len(row) != wanted[1] for row in found):
                raise ValueError(f"must be {list(wanted)} numbers")
            return found

        return loaded(path, "errors", quantiles)

    def scored(self, backtest: Backtest, part: str, windows: Windows) -> dict[str, Any]:
        """The scores of a backtest, for scores.json and for people."""
        last, season = (backtest.beside[name] for name in NAIVE)
        name = f"seasonal naive ({self.shape.season})"
        return {
            **backtest.scores,
            "part": part,
            "windows": len(windows),
            **{f"{name}_last_value": value for name, value in last.items()},
            "baseline": {"name": name, **season},
        }

    def score_files(self, model: Any, files: list[str], report: ProgressCallback) -> dict[str, Any]:
        """The scores of a model, and of the naive forecasts, over all of some files."""
        skipped = SkipLog()
        with tempfile.TemporaryDirectory(prefix="elman-") as folder:
            panel = self.other(files, Path(folder) / "panel", skipped, report)
            windows = self.windows_of(panel, [(0, block.history) for block in panel.blocks])
            if not len(windows):
                s = self.shape
                raise DataError(
                    f"{', '.join(files)}: {max(b.history for b in panel.blocks)} steps at most; "
                    f"{s.context} are read and {s.horizon} forecast, so {s.context + s.horizon} "
                    "are needed"
                )
            stride = -(-len(windows) // MOST_WINDOWS["test"])
            windows = self.windows_of(panel, [(0, b.history) for b in panel.blocks], stride)
            scores = self.scored(self.backtest(model, windows, report), "given", windows)
        del scores["part"]
        return scores | ({"skipped": str(skipped)} if skipped.total else {})

    def other(
        self, files: list[str], folder: Path, skipped: SkipLog, report: ProgressCallback
    ) -> Panel:
        """Other files of the kind that was trained on, with the scales of the training."""
        o, panel = self.options, self.panel
        rows = PanelRows(files, panel.roles, **o.table)
        units = {unit.name: unit for unit in panel.units}
        learnt = Learnt(panel.frequency, units, panel.covariate_scale)
        return write_panel(folder, rows, o.rules(self.shape.season), skipped, report, learnt=learnt)

    # The end

    def load(self, cell: type[Cell]) -> Any:
        from elman.tasks.forecast.predictor import ForecastPredictor
        from elman.train.weights import load_built

        model = load_built(lambda: self.build(cell), self.run.weights_file)
        return ForecastPredictor(self.run, self.options, model.eval(), self)

    def finish(self, cell: type[Cell], console: Console) -> None:
        from elman.tasks.forecast.plots import draw_forecasts

        trained = self.load(cell)
        with reported(console) as report:
            self._keep_errors(trained.model)
            windows = self.thinned("test")
            backtest = self.backtest(trained.model, windows, report)
        scores = self.scored(backtest, "test", windows)
        self.keep_scores(scores, console)
        self._keep_steps(backtest)
        draw_forecasts(self.run.folder / "forecasts.png", self, trained.model)
        self.point_to(console, "forecasts.png", "backtest.csv")

    @property
    def given(self) -> str:
        return f"--file {self._files[0]}"

    def _keep_errors(self, model: Any) -> None:
        """errors.json: the quantiles of a point forecast's errors in validation, step by step."""
        path = self.run.folder / "errors.json"
        remove(path)
        if model.output.size > 1:
            return
        stride = -(-len(self.windows("valid")) // RESIDUAL_WINDOWS)
        batches = self.in_order(self.windows("valid", stride))
        forecast, errors = self.forecasting(model), []
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


def _read(batch: Batch) -> dict[str, Any]:
    """What a model's loss takes."""
    beside = ("naive_error", "season_before")
    return {name: t for name, t in batch.tensors.items() if name not in beside}


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
