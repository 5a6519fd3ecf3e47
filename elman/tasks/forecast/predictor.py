"""A trained forecaster: what comes after the end of a file, and after each row of a stream."""

import shlex
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
from elman.data.series.windows import Windows
from elman.data.text.corpus import ProgressCallback
from elman.errors import DataError, OptionError
from elman.models.common.autoregressive import AutoregressiveForecaster
from elman.models.common.loss import Loss
from elman.tasks.base.example_predictor import batched
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.predictor import Predictor
from elman.tasks.base.streaming import Streaming
from elman.tasks.forecast.backtest import (
    NAIVE,
    Backtest,
    Forecasting,
    error_scores,
    error_sums,
    forecasting,
)
from elman.tasks.forecast.history import History, answer_of, histories
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.forecast.processor import MOST_WINDOWS, ForecastProcessor
from elman.tasks.forecast.stream import RowStream


@dataclass(frozen=True)
class ForecastPredictor(Predictor):
    """A trained forecaster."""

    options: ForecastOptions
    processor: ForecastProcessor

    def read_inputs(self, file: str | Path) -> Iterator[History]:
        """The series in a file, each at its end."""
        with tempfile.TemporaryDirectory(prefix="elman-") as folder:
            skipped = SkipLog()
            panel = self.processor.other([str(file)], Path(folder) / "panel", skipped, _quiet)
            if skipped.total:
                warnings.warn(f"{file}: {skipped}", stacklevel=2)
            yield from histories(self.processor, panel)

    def parse(self, text: str) -> Any:
        folder = shlex.quote(str(self.run.folder))
        raise OptionError(
            f"{self.run.folder}: series are read from files, with their times: elman predict "
            f"{folder} --file new.csv; or row by row: --stream"
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
            found = self.forecasting()(whole, self.options.levels)
        assert found.quantiles is not None
        for b in range(len(histories)):
            yield found.point[:, b].numpy(), found.quantiles[:, b].numpy()

    def stream(self) -> Streaming:
        """Rows one by one: after each the forecast of the steps that follow."""
        return RowStream(self.model, self.processor)

    def forecasting(self) -> Forecasting:
        """(batch, levels) -> `Forecast`; the quantiles of a point are those of its errors."""
        return forecasting(self.model, self.processor)

    # Scores

    def loss(self, batch: Batch, state: Any) -> Loss:
        beside = ("naive_error", "season_before")
        return self.model.loss(**{k: t for k, t in batch.tensors.items() if k not in beside})

    def measure(self, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        if isinstance(self.model, AutoregressiveForecaster):
            return super().measure(batch, state)
        t, output = batch.tensors, self.model.output
        o = self.model(t["y"], t.get("x"), t["series"])
        each = output.loss(o, t["target"])
        weight = t.get("weight", torch.ones_like(each))
        sums = {"total": float((each * weight).sum()), "count": float(weight.sum())}
        errors = error_sums(output.point(o), batch)
        return {**sums, **{f"error_{k}": float(v.sum()) for k, v in errors.items()}}, None

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        errors = {
            name.removeprefix("error_"): np.float64(value)
            for name, value in sums.items()
            if name.startswith("error_")
        }
        found = error_scores(errors) if errors else {}
        return {**super().scores(sums), **{k: v for k, v in found.items() if k != "mae"}}

    def evaluate(self, files: Any = (), report: ProgressCallback | None = None) -> dict[str, Any]:
        """A rolling backtest over files like those trained on; over the run's own test part where
        there are none. Raises DataError."""
        given = [files] if isinstance(files, str | Path) else files
        if not given:
            windows = self.processor.thinned("test")
            return self.scored(self.backtest(windows, report), "test", windows)
        return self._score_files([str(f) for f in given], report or _quiet)

    def backtest(self, windows: Windows, report: ProgressCallback | None = None) -> Backtest:
        """Forecast from each window, beside the observed values."""
        self.model.eval()
        batches = self.processor.in_order(windows)
        return Backtest(self.forecasting(), batches, self.options.levels, report)

    def scored(self, backtest: Backtest, part: str, windows: Windows) -> dict[str, Any]:
        """The scores of a backtest, for scores.json and for people."""
        last, season = (backtest.beside[name] for name in NAIVE)
        name = f"seasonal naive ({self.processor.shape.season})"
        return {
            **backtest.scores,
            "part": part,
            "windows": len(windows),
            **{f"{name}_last_value": value for name, value in last.items()},
            "baseline": {"name": name, **season},
        }

    def _score_files(self, files: list[str], report: ProgressCallback) -> dict[str, Any]:
        """The scores of the model, and of the naive forecasts, over all of some files."""
        skipped, processor = SkipLog(), self.processor
        with tempfile.TemporaryDirectory(prefix="elman-") as folder:
            panel = processor.other(files, Path(folder) / "panel", skipped, report)
            windows = processor.windows_of(panel, [(0, block.history) for block in panel.blocks])
            if not len(windows):
                s = processor.shape
                raise DataError(
                    f"{', '.join(files)}: {max(b.history for b in panel.blocks)} steps at most; "
                    f"{s.context} are read and {s.horizon} forecast, so {s.context + s.horizon} "
                    "are needed"
                )
            stride = -(-len(windows) // MOST_WINDOWS["test"])
            windows = processor.windows_of(panel, [(0, b.history) for b in panel.blocks], stride)
            scores = self.scored(self.backtest(windows, report), "given", windows)
        del scores["part"]
        return scores | ({"skipped": str(skipped)} if skipped.total else {})


def _quiet(what: str, done: int, total: int) -> None:
    pass
