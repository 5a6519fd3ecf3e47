"""Series as windows: the panel of the run, the steps of a window, what a point may be off."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from elman.data.core.files import loaded
from elman.data.core.records import SkipLog
from elman.data.core.typed import as_type
from elman.data.embedded import embedded_file
from elman.data.series.panel import PARTS, Panel
from elman.data.series.panel_files import Learnt, write_panel
from elman.data.series.panel_rows import PanelRows
from elman.data.series.windows import WindowBatches, Windows
from elman.data.text.corpus import ProgressCallback
from elman.errors import DataError
from elman.models.series.distribution_head import output_named
from elman.models.series.forecaster import Forecast
from elman.tasks.forecast.options import SUNSPOTS, ForecastOptions, Shape
from elman.train.processor import Processor

#: Where a part has more windows than this, every so many-th is taken.
MOST_WINDOWS = {"valid": 1 << 15, "test": 1 << 17}


class ForecastProcessor(Processor[ForecastOptions]):
    """The series of a run with their scales, and the steps of a window."""

    @property
    def loss_name(self) -> str:
        return output_named(self.options.output, self.options.levels).loss_name

    def fit(self, report: ProgressCallback) -> dict[str, Any]:
        """Write the series as a panel, and choose the steps of a window. Returns the `metadata`."""
        o, skipped = self.options, SkipLog()
        rows = PanelRows(self.tables, named=o.named, **o.table)
        season = o.season or (None if self.files else SUNSPOTS[o.sunspots])
        rules, folder = o.rules(season), self._folder
        panel = self.once(
            "panel", lambda: write_panel(folder, rows, rules, skipped, report, cuts=o.cuts)
        )
        training = max(block.cuts[0] for block in panel.blocks)
        shape = Shape.of(o, panel.frequency, season or panel.frequency.season, training)
        about = {"about": rows.about, "skipped": str(skipped), "shape": shape.to_json()}
        self._fitted = {**about, "series": len(panel.units), "frequency": panel.frequency.name}
        windows = {part: self.windows(part) for part in PARTS}
        for part, several in windows.items():
            if not len(several):
                raise self._too_short(part, shape)
        counts = {part: len(several) for part, several in windows.items()}
        short = int((windows["train"].counts == 0).sum())
        if short:
            skipped.add(
                f"series with too few steps to train on ({shape.context} are read, "
                f"{shape.horizon} forecast)",
                rows.about,
                short,
            )
            self._fitted["skipped"] = str(skipped)
        self._fitted["windows"] = counts
        return self._fitted

    def _too_short(self, part: str, shape: Shape) -> DataError:
        panel = self.panel
        begin, end = max((b.part(part) for b in panel.blocks), key=lambda p: p[1] - p[0])
        needs = shape.horizon + (shape.context if part == "train" else 0)
        about = self.fact("about", str)
        return DataError(
            f"{about}: the {part} part has {end - begin} steps at most, and needs "
            f"{needs} ({shape.horizon} to forecast"
            + (f", {shape.context} to read before them" if part == "train" else "")
            + "); take a smaller --horizon"
            + (" or --context" if part == "train" else f", or a larger --{part}-fraction")
        )

    @property
    def tables(self) -> list[str]:
        """The files that are trained on; the embedded one where none was given."""
        return self.files or [embedded_file(f"sunspots.{self.options.sunspots}.csv.gz")]

    @property
    def _folder(self) -> Path:
        return self.run.folder / "data" / "panel"

    @property
    def shape(self) -> Shape:
        """The steps of a window."""
        return self.once("shape", lambda: self.fact("shape", dict, Shape.from_json))

    @property
    def panel(self) -> Panel:
        """The series of the run."""
        return self.once("panel", lambda: Panel.open(self._folder))

    # Windows

    def windows(self, part: str, stride: int = 1) -> Windows:
        """The windows of a part."""
        panel = self.panel
        return self.windows_of(panel, [block.part(part) for block in panel.blocks], stride)

    def windows_of(self, panel: Panel, parts: list[tuple[int, int]], stride: int = 1) -> Windows:
        """The windows of some rows of a panel, as the model reads them."""
        s, o = self.shape, self.options
        how: dict[str, Any] = {"cycles": s.cycles, "season": s.season, "stride": stride}
        return Windows(panel, s.context, s.horizon, parts, joint=o.joint, **how)

    def thinned(self, part: str) -> Windows:
        """The windows of a part, so far apart that they are not too many."""
        return self.windows(part, -(-len(self.windows(part)) // MOST_WINDOWS[part]))

    def in_order(self, windows: Windows) -> WindowBatches:
        """All windows, one after the other."""
        return WindowBatches(windows, max(self.options.batch_size, 256), shuffle=False)

    def other(
        self, files: list[str], folder: Path, skipped: SkipLog, report: ProgressCallback
    ) -> Panel:
        """Other files of the kind that was trained on, with the scales of the training."""
        o, panel = self.options, self.panel
        rows = PanelRows(files, panel.roles, **o.table)
        units = {unit.name: unit for unit in panel.units}
        learnt = Learnt(panel.frequency, units, panel.covariate_scale)
        return write_panel(folder, rows, o.rules(self.shape.season), skipped, report, learnt=learnt)

    # Errors in validation

    @property
    def errors_file(self) -> Path:
        """Where the quantiles of a point forecast's errors in validation are."""
        return self.run.folder / "errors.json"

    def spread(self) -> Callable[[Forecast], Forecast]:
        """Gives a point forecast the quantiles that its errors had in validation."""
        path = self.errors_file
        errors = self._errors(path) if path.is_file() else None

        def given(forecast: Forecast) -> Forecast:
            if forecast.quantiles is not None or errors is None:
                return forecast
            off = torch.tensor(errors, dtype=forecast.point.dtype)
            return Forecast(forecast.point, forecast.point[..., None] + off[:, None, None])

        return given

    def _errors(self, path: Path) -> list[list[float]]:
        """[horizon][levels] of errors.json."""
        wanted = self.shape.horizon, len(self.options.levels)

        def quantiles(value: Any) -> list[list[float]]:
            rows = as_type(list[list[float]], value["quantiles"], "quantiles")
            if len(rows) != wanted[0] or any(len(row) != wanted[1] for row in rows):
                raise ValueError(f"must be {list(wanted)} numbers")
            return rows

        return loaded(path, "errors", quantiles)
