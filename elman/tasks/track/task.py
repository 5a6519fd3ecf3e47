"""`elman train track`: the next boxes of each track in a video."""

from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from elman.cells import Cell
from elman.data.core.batch import Batch
from elman.data.core.records import RecordSource, split
from elman.models.common.loss import Loss
from elman.models.tracks.tracker import Tracker
from elman.tasks.base.example_task import ExampleTask
from elman.tasks.track.options import TrackOptions
from elman.tasks.track.predictor import TrackPredictor
from elman.tasks.track.processor import TrackProcessor, Window
from elman.train.custom_cell import cell_class


class Tracking(ExampleTask[TrackOptions]):
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
    processor_type = TrackProcessor
    processor: TrackProcessor
    predictor_type = TrackPredictor
    unit = "box"
    criterion = "ade_pixels"

    @classmethod
    def check(cls, options: TrackOptions, files: list[str]) -> None:
        super().check(options, files)
        _model(options, cell_class(options.cell))

    def sources(self) -> dict[str, RecordSource[Window]]:
        """Validation holds out whole tracks, as windows of one overlap."""
        o, processor = self.options, self.processor
        parts = {"train": processor.tracks(processor.files, "train")}
        if o.valid:
            parts["valid"] = processor.tracks(o.valid)
        else:
            parts["train"], parts["valid"] = split(parts["train"], o.valid_fraction, o.seed)
        if o.test or not processor.files:
            parts["test"] = processor.tracks(o.test)
        return {part: processor.windows(source) for part, source in parts.items()}

    def build(self, cell: type[Cell]) -> Tracker:
        scale, typical = self.processor.scale, self.processor.typical
        return _model(self.options, cell, **scale.to_json(), typical=typical)

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        t, o = batch.tensors, self.options
        past, future = mirrored(t["past"], t["future"], self.processor.scale.mean[0], o.mirror)
        return model.loss(*shortened(past, t["past_lengths"], o.shorten), future)

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained = self.load(cell)
        examples = self.final_scores(trained, console)
        for name, scores in trained.baseline(examples).items():
            if isinstance(scores, dict):
                text = "  ".join(f"{key.replace('_', ' ')} {v:.4f}" for key, v in scores.items())
                console.print(f"{name.replace('_', ' ')}: {text}", highlight=False)
        chosen = np.unique(np.linspace(0, len(examples) - 1, 6).astype(int)).tolist()
        trained.draw([examples[i] for i in chosen], self.run.folder / "tracks.png")
        self.point_to(console, "tracks.png")


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


def _model(options: TrackOptions, cell: type[Cell], **fitted: Any) -> Tracker:
    """fitted: what the data say, and so no option does."""
    return Tracker(
        options.predict,
        decoder=options.decoder,
        coordinates=options.coordinates,
        change_from=options.change_from,
        velocity_steps=options.velocity_steps,
        hidden_size=options.hidden,
        num_layers=options.layers,
        **fitted,
        **options.stack(cell),
    )
