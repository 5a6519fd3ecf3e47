"""`elman train track`: the next boxes of each track in a video."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from elman.cells import Cell
from elman.data.core.batch import Batch
from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.data.core.records import RecordSource, SkipLog, split
from elman.data.core.scalers import StandardScaler
from elman.data.text.corpus import ProgressCallback
from elman.data.tracks.boxes import GAPS, USUAL, Track, made_tracks, tracks
from elman.errors import OptionError, require_positive, require_probability, unknown
from elman.models.common.loss import Loss
from elman.models.tracks.tracker import (
    CHANGES,
    COORDINATES,
    DECODERS,
    Tracker,
    at,
    constant_velocity,
)
from elman.settings import option
from elman.tasks.base.examples import ExampleTask, batched, load_best
from elman.tasks.base.options import ExampleOptions
from elman.tasks.track.predictor import TrackPredictor, centred
from elman.train.custom_cell import cell_class

#: Tracks made by the program.
MADE = {"train": 300, "test": 60}


@dataclass(frozen=True)
class TrackOptions(ExampleOptions):
    """What `elman train track` takes beside the files."""

    observe: int = option(8, "Boxes of a track that are read.", "Data")
    predict: int = option(12, "Boxes after them that are predicted.", "Data")
    stride: int = option(1, "Frames from window to window in a track.", "Data")
    frame_step: int = option(1, "Take only every so manieth frame of a track.", "Data")
    gaps: str = option(
        "interpolate", f"Of missing boxes: {', '.join(GAPS)} the track in two.", "Data"
    )
    longest_gap: int = option(10, "Missing boxes in a row that are interpolated at most.", "Data")
    track_column: str | None = option(
        None, "The column of tracks. [dim]default: track, id[/]", "Data"
    )
    frame_column: str | None = option(None, "The column of frames. [dim]default: frame[/]", "Data")
    x_column: str | None = option(None, "Left edge. [dim]default: x, left, bb_left ...[/]", "Data")
    y_column: str | None = option(None, "Upper edge. [dim]default: y, top, bb_top ...[/]", "Data")
    w_column: str | None = option(None, "Width. [dim]default: w, width, bb_width[/]", "Data")
    h_column: str | None = option(None, "Height. [dim]default: h, height, bb_height[/]", "Data")
    header: bool = option(True, "Whether the first line of a table names the columns.", "Data")
    delimiter: str | None = option(
        None, "What stands between columns. [dim]default: by the file's name[/]", "Data"
    )
    valid_fraction: float = option(0.2, "Share of the tracks that is kept for validation.", "Data")
    epochs: int | None = option(
        None, "Passes over the training part. [dim]default: 20, or none with --minutes[/]",
        "Length",
    )  # fmt: skip
    hidden: int = option(64, "Units in each layer.", "Model")
    cell: str = option("gru", "A cell of `elman cells`, or your own as path.py:ClassName.", "Model")
    decoder: str = option("direct", f"How the boxes are predicted: {', '.join(DECODERS)}.", "Model")
    coordinates: str = option(
        "offsets", f"What is read of a box: {', '.join(COORDINATES)}.", "Model"
    )
    change_from: str = option(
        "velocity", f"What the model corrects: constant {' or the last '.join(CHANGES)}.", "Model"
    )
    velocity_steps: int = option(3, "Steps that this velocity is the mean of.", "Model")
    mirror: float = option(
        0.5, "Share of the training windows that are mirrored, left and right.", "Regularisers"
    )
    shorten: float = option(
        0.1, "Share of the training windows that lack some of the first boxes.", "Regularisers"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("observe", "predict", "stride", "frame_step", "velocity_steps")
        require_positive(**{name: getattr(self, name) for name in sizes})
        require_probability(mirror=self.mirror, shorten=self.shorten)
        if self.gaps not in GAPS:
            raise unknown("rule for gaps", self.gaps, GAPS)
        if self.longest_gap < 0:
            raise OptionError(f"longest_gap must be 0 or above, got {self.longest_gap}")

    @property
    def passes(self) -> int | None:
        bounded = not self.epochs == self.minutes == self.steps == None  # noqa: E711
        return self.epochs if bounded else 20


@dataclass(frozen=True, slots=True)
class Window:
    """Boxes of a track, [observe + predict, 4] centre, width and height, and where they are."""

    boxes: NDArray[np.float32]
    where: str


class Tracking(ExampleTask[TrackOptions, Any]):
    """Windows of tracks: the boxes that are read, and those that follow."""

    name = "track"
    title = "a model of tracks"
    help = """Train a model that predicts the next boxes of each track in a video.

    [bold]elman train track[/]                                   straight and turning motions, made
    [bold]elman train track TUD-Campus/gt.txt --test TUD-Stadtmitte/gt.txt[/]   MOTChallenge
    [bold]elman train track boxes.csv --observe 8 --predict 12[/]   track, frame, x, y, w, h
    [bold]elman train track MOT17/train --frame-step 5[/]        every gt.txt in a folder
    """
    files_help = (
        "gt.txt of MOTChallenge, folders of them; CSV, TSV, JSONL, parquet. "
        "[dim]default: motions made by the program[/]"
    )
    options_type = TrackOptions
    bucket_by = "past"
    unit = "box"
    loss_name = "loss"
    criterion = "ade_pixels"

    # From files to a model

    @classmethod
    def check(cls, options: TrackOptions, files: list[str]) -> None:
        super().check(options, files)
        _model(options, cell_class(options.cell))

    def tracks(self, files: list[str], part: str = "test") -> RecordSource[Track]:
        """The tracks in files; those that are made where there are none."""
        o = self.options
        if not files:
            return _made(part)
        return tracks(
            files,
            gaps=o.gaps,
            longest_gap=o.longest_gap,
            frame_step=o.frame_step,
            columns={what: getattr(o, f"{what}_column") for what in USUAL},
            encoding=o.encoding,
            header=o.header,
            delimiter=o.delimiter,
        )

    def read(self, files: list[str]) -> RecordSource[Window]:
        return self.windows(self.tracks(files))

    def windows(self, source: RecordSource[Track]) -> RecordSource[Window]:
        """The windows of each track, one every --stride frames."""
        o = self.options
        size = o.observe + o.predict

        def read(skipped: SkipLog) -> Iterator[Window]:
            for track in source.read(skipped):
                if len(track.boxes) < size:
                    skipped.add(f"track of less than {size} boxes", track.where)
                boxes = centred(track.boxes)
                for begin in range(0, len(boxes) - size + 1, o.stride):
                    frame = track.frame + begin * track.step
                    yield Window(boxes[begin : begin + size], f"{track.where}, frame {frame}")

        return RecordSource(source.about, read)

    def sources(self) -> dict[str, RecordSource[Window]]:
        """Validation holds out whole tracks, as windows of one overlap."""
        o = self.options
        parts = {"train": self.tracks(self.files, "train")}
        if o.valid:
            parts["valid"] = self.tracks(o.valid)
        else:
            parts["train"], parts["valid"] = split(parts["train"], o.valid_fraction, o.seed)
        if o.test or not self.files:
            parts["test"] = self.tracks(o.test)
        return {part: self.windows(source) for part, source in parts.items()}

    def learn(self, train: RecordSource[Window], report: ProgressCallback) -> dict[str, Any]:
        boxes = StandardScaler.fit(window.boxes for window in train)
        moves = StandardScaler.fit(offsets(window.boxes) for window in train)
        return {"scale": boxes.to_json(), "typical": moves.deviation}

    def encode(self, record: Window, source: RecordSource[Window]) -> Mapping[str, Any]:
        observe = self.options.observe
        return {"past": record.boxes[:observe], "future": record.boxes[observe:]}

    def build(self, cell: type[Cell]) -> Tracker:
        scale, typical = StandardScaler.from_json(self.found["scale"]), self.found["typical"]
        return _model(self.options, cell, **scale.to_json(), typical=typical)

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        t, o = batch.tensors, self.options
        past, future = mirrored(t["past"], t["future"], self.found["scale"]["mean"][0], o.mirror)
        return model.loss(*shortened(past, t["past_lengths"], o.shorten), future)

    def measure(self, model: Any, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        t = batch.tensors
        loss = model.loss(t["past"], t["past_lengths"], t["future"])
        found = model(t["past"], t["past_lengths"])
        return {"total": float(loss.total), "count": float(loss.count)} | errors(
            found, t["future"]
        ), None

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        return {**super().scores(sums), **_scores(sums)}

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """The velocity from the last two boxes, for ever; beside it the mean velocity of all that
        were read, and the last box again."""
        sums: dict[str, dict[str, float]] = {"constant": {}, "mean": {}, "none": {}}
        for rows in batched(examples, 256):
            t = collate(rows).tensors
            past, future, lengths = t["past"], t["future"], t["past_lengths"]
            box, ahead = at(past, lengths - 1), torch.arange(1, len(future) + 1)[:, None, None]
            mean = (box - past[0]) / (lengths - 1).clamp(min=1)[:, None]
            found = {
                "constant": constant_velocity(past, lengths, len(future)),
                "mean": box + ahead * mean,
                "none": box.expand_as(future),
            }
            for name, boxes in found.items():
                for key, value in errors(boxes, future).items():
                    sums[name][key] = sums[name].get(key, 0.0) + value
        others = {"mean_velocity": _scores(sums["mean"]), "last_box": _scores(sums["none"])}
        return {"name": "constant velocity", **_scores(sums["constant"]), **others}

    # The end

    def load(self, cell: type[Cell]) -> TrackPredictor:
        return TrackPredictor(self.run, self.options, load_best(self, cell), self)

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained = self.load(cell)
        examples = self.final_scores(trained, console)
        for name, scores in self.baseline(examples).items():
            if isinstance(scores, dict):
                text = "  ".join(f"{key.replace('_', ' ')} {v:.4f}" for key, v in scores.items())
                console.print(f"{name.replace('_', ' ')}: {text}", highlight=False)
        chosen = np.unique(np.linspace(0, len(examples) - 1, 6).astype(int)).tolist()
        trained.draw([examples[i] for i in chosen], self.run.folder / "tracks.png")
        self.point_to(console, "tracks.png")


def offsets(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """From box to box [T, 4], in heights of the second: [T - 1, 4]."""
    return np.diff(boxes, axis=0) / boxes[1:, 3:].clip(1)


def mirrored(past: Tensor, future: Tensor, middle: float, share: float) -> tuple[Tensor, Tensor]:
    """Boxes of which this share, drawn, is mirrored left and right about the middle."""
    if not share:
        return past, future
    turned = torch.rand(past.shape[1], device=past.device) < share

    def each(boxes: Tensor) -> Tensor:
        x = torch.where(turned, 2 * middle - boxes[..., 0], boxes[..., 0])
        return torch.cat((x[..., None], boxes[..., 1:]), dim=-1)

    return each(past), each(future)


def shortened(past: Tensor, lengths: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Boxes [T, B, 4] of which this share, drawn, begin at a later one; one at least stays."""
    if not share:
        return past, lengths
    some = torch.rand(lengths.shape, device=past.device) < share
    cut = (torch.rand(lengths.shape, device=past.device) * lengths).long() * some
    steps = torch.arange(len(past), device=past.device)[:, None] + cut
    index = steps.clamp(max=len(past) - 1)[..., None].expand_as(past)
    return past.gather(0, index), lengths - cut


def errors(found: Tensor, wanted: Tensor) -> dict[str, float]:
    """Sums over tracks of how far boxes [H, B, 4] are from those wanted."""
    away = (found[..., :2] - wanted[..., :2]).norm(dim=-1)
    return {
        "away": float(away.mean(0).sum()),
        "away_last": float(away[-1].sum()),
        "overlap": float(overlap(found, wanted).mean(0).sum()),
        "windows": float(found.shape[1]),
    }


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes [..., 4]; a width or height below 0 is one of 0."""
    a_size, b_size = a[..., 2:].clamp(min=0), b[..., 2:].clamp(min=0)
    low = torch.maximum(a[..., :2] - a_size / 2, b[..., :2] - b_size / 2)
    high = torch.minimum(a[..., :2] + a_size / 2, b[..., :2] + b_size / 2)
    both = (high - low).clamp(min=0).prod(-1)
    return both / (a_size.prod(-1) + b_size.prod(-1) - both).clamp(min=1e-9)


def _scores(sums: dict[str, float]) -> dict[str, float]:
    count = max(sums.get("windows", 0.0), 1)
    names = {"ade_pixels": "away", "fde_pixels": "away_last", "iou": "overlap"}
    return {name: sums.get(of, 0.0) / count for name, of in names.items()}


def _made(part: str) -> RecordSource[Track]:
    def read(skipped: SkipLog) -> Iterator[Track]:
        return made_tracks(MADE[part], list(MADE).index(part))

    return RecordSource("straight and turning motions, made", read)


def _model(options: TrackOptions, cell: type[Cell], **found: Any) -> Tracker:
    """found: what the data say, and so no option does."""
    return Tracker(
        options.predict,
        decoder=options.decoder,
        coordinates=options.coordinates,
        change_from=options.change_from,
        velocity_steps=options.velocity_steps,
        hidden_size=options.hidden,
        num_layers=options.layers,
        **found,
        **options.stack(cell),
    )
