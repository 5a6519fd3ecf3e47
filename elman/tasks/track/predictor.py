"""A trained model of tracks: the next boxes of each."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elman.data.core.batch import Batch
from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.data.tracks.boxes import Track
from elman.errors import DataError, ShapeError
from elman.models.common.loss import Loss
from elman.models.tracks.tracker import Now, Tracker, constant_velocity, height
from elman.tasks.base.example_predictor import ExamplePredictor, answered
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.streaming import Lines, stack_stream
from elman.tasks.track.options import TrackOptions
from elman.tasks.track.plots import draw_tracks
from elman.tasks.track.processor import Boxes, TrackProcessor, centred
from elman.tasks.track.scores import errors, straight_scores, track_scores


@dataclass(frozen=True)
class TrackPredictor(ExamplePredictor):
    """A trained model of tracks. Boxes are [T, 4]: left, top, width, height, in pixels."""

    options: TrackOptions
    model: Tracker
    processor: TrackProcessor

    def parse(self, text: str) -> Boxes:
        """The boxes in a line, as ``10 20 30 60; 12 20 30 61``."""
        if not text.strip():
            return np.zeros((0, 4), dtype=np.float32)
        return np.stack([box(part) for part in text.split(";")])

    def read_inputs(self, file: str | Path) -> Iterator[Track]:
        """The tracks in a file, each with as many of its last boxes as the model was trained on."""
        observe = self.options.observe
        for track in self.processor.tracks([str(file)]):
            begin = max(len(track.boxes) - observe, 0)
            frame = track.frame + begin * track.step
            yield Track(track.boxes[begin:], track.name, frame, track.step, track.where)

    def predict(
        self, inputs: Iterable[Boxes | Track], *, batch_size: int = 64
    ) -> Iterator[Prediction]:
        """The boxes that follow all those given, of each input."""
        return answered(inputs, batch_size, lambda given: not len(_boxes(given)), self._answers)

    def _answers(self, several: Sequence[Boxes | Track]) -> Iterator[Prediction]:
        t = collate([{"past": centred(_boxes(given))} for given in several]).tensors
        with torch.inference_mode():
            found = cornered(self.model(t["past"], t["past_lengths"]))
        for b, given in enumerate(several):
            record: dict[str, Any] = {}
            if isinstance(given, Track):
                last = given.frame + (len(given.boxes) - 1) * given.step
                record = {"track": given.name, "frame": last, "frame_step": given.step}
            yield prediction_of(found[:, b], record)

    def stream(self) -> "TrackStream":
        return TrackStream(self)

    def draw(self, rows: Sequence[Any], path: Path) -> None:
        """Examples: the boxes that were given, observed and predicted."""
        t = collate(rows).tensors
        past, lengths, future = t["past"], t["past_lengths"], t["future"]
        with torch.inference_mode():
            found = self.model(past, lengths)
        straight = constant_velocity(past, lengths, len(future))
        parts = [cornered(boxes).numpy() for boxes in (past, future, found, straight)]
        panels = [tuple(part[:, b] for part in parts) for b in range(len(rows))]
        draw_tracks(path, panels)

    # Scores

    def loss(self, batch: Batch, state: Any) -> Loss:
        t = batch.tensors
        return self.model.loss(t["past"], t["past_lengths"], t["future"])

    def measure(self, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        t = batch.tensors
        sums, _ = super().measure(batch, state)
        found = self.model(t["past"], t["past_lengths"])
        return {**sums, **errors(found, t["future"])}, None

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        return {**super().scores(sums), **track_scores(sums)}

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """The velocity from the last two boxes, for ever; beside it the mean velocity of all that
        were read, and the last box again."""
        return straight_scores(examples)


class TrackStream(Lines):
    """The boxes that follow, after each box of a track as it comes, a line each."""

    def __init__(self, trained: TrackPredictor) -> None:
        self.model = trained.model
        self.layers = stack_stream(trained.run.folder, self.model.encoder)
        self.boxes: deque[Tensor] = deque(maxlen=self.model.velocity_steps + 1)

    def __call__(self, piece: str) -> Prediction:
        [now] = torch.from_numpy(centred(box(piece)[None]))
        before = self.boxes[-1] if self.boxes else now
        hidden = self.layers(self.model.read(now[None, None], before[None])[0, 0])
        self.boxes.append(now)
        velocity = (now - self.boxes[0]) / max(len(self.boxes) - 1, 1)
        # The layers' state as a layer returns it: one part by itself, several as a tuple.
        state = tuple(parts[0] if len(parts) == 1 else parts for parts in self.layers.state)
        known = Now(now[None], velocity[None], height(now[None]), hidden[None], state)
        return prediction_of(cornered(self.model.said(known))[:, 0], {})

    def end(self) -> None:
        self.layers.reset()
        self.boxes.clear()


def box(text: str) -> Boxes:
    """The box in a line: left, top, width, height."""
    try:
        values = np.array([float(v) for v in text.replace(",", " ").split()], dtype=np.float32)
    except ValueError as error:
        raise DataError(f"'{text.strip()[:40]}': a box is four numbers: {error}") from error
    if len(values) != 4 or not np.isfinite(values).all() or min(values[2:]) <= 0:
        raise DataError(
            f"'{text.strip()[:40]}': a box is left, top, width and height, the last two above 0"
        )
    return values


def cornered(boxes: Tensor) -> Tensor:
    """Centre, width, height as left, top, width, height, a pixel at least."""
    size = boxes[..., 2:].clamp(min=1.0)
    return torch.cat((boxes[..., :2] - size / 2, size), dim=-1)


def prediction_of(boxes: Tensor, record: dict[str, Any]) -> Prediction:
    """What is said of boxes that follow, [H, 4]."""
    rows = boxes.tolist()
    text = "; ".join(" ".join(f"{value:.1f}" for value in row) for row in rows)
    name = f"{record['track']}\t" if "track" in record else ""
    return Prediction(name + text, {**record, "boxes": rows})


def _boxes(given: Any) -> Boxes:
    boxes = given.boxes if isinstance(given, Track) else np.asarray(given, dtype=np.float32)
    if len(boxes) and (boxes.ndim != 2 or boxes.shape[1] != 4):
        raise ShapeError(f"boxes must be [T, 4], got {list(boxes.shape)}")
    return boxes
