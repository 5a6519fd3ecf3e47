"""Tracks as windows: the boxes that are read, and those that follow."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.records import RecordSource, SkipLog
from elman.data.core.scalers import StandardScaler
from elman.data.text.corpus import ProgressCallback
from elman.data.tracks.boxes import USUAL, Track, made_tracks, tracks
from elman.tasks.base.example_processor import ExampleProcessor
from elman.tasks.track.options import TrackOptions

Boxes = NDArray[np.float32]
#: Tracks made by the program.
MADE = {"train": 300, "test": 60}


@dataclass(frozen=True, slots=True)
class Window:
    """Boxes of a track, [observe + predict, 4] centre, width and height, and where they are."""

    boxes: Boxes
    where: str


class TrackProcessor(ExampleProcessor[TrackOptions, Window]):
    """The scale of boxes, and how far they usually move from one to the next."""

    bucket_by = "past"

    @property
    def loss_name(self) -> str:
        return "loss"

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

    def fit(self, train: RecordSource[Window], report: ProgressCallback) -> dict[str, Any]:
        boxes = StandardScaler.fit(window.boxes for window in train)
        moves = StandardScaler.fit(offsets(window.boxes) for window in train)
        return {"scale": boxes.to_json(), "typical": moves.deviation}

    @property
    def scale(self) -> StandardScaler:
        """The mean and the deviation of boxes."""
        return self.once("scale", lambda: self.fact("scale", dict, StandardScaler.from_json))

    @property
    def typical(self) -> tuple[float, ...]:
        """The size of an offset, in heights."""
        values = self.fact("typical", tuple[float, ...])
        if len(values) != 4 or not all(0 < value < math.inf for value in values):
            raise self.damaged(f"typical must be four numbers above 0, got {list(values)}")
        return values

    def encode(self, record: Window, source: RecordSource[Window]) -> Mapping[str, Any]:
        observe = self.options.observe
        return {"past": record.boxes[:observe], "future": record.boxes[observe:]}


def centred(boxes: Boxes) -> Boxes:
    """Left, top, width, height as centre, width, height."""
    return np.concatenate((boxes[..., :2] + boxes[..., 2:] / 2, boxes[..., 2:]), axis=-1)


def offsets(boxes: Boxes) -> Boxes:
    """From box to box [T, 4], in heights of the second: [T - 1, 4]."""
    return np.diff(boxes, axis=0) / boxes[1:, 3:].clip(1)


def _made(part: str) -> RecordSource[Track]:
    def read(skipped: SkipLog) -> Iterator[Track]:
        return made_tracks(MADE[part], list(MADE).index(part))

    return RecordSource("straight and turning motions, made", read)
