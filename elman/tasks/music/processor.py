"""Pieces of music as numbers: frames, each with the next one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from elman.data.core.files import loaded, write_json
from elman.data.core.records import RecordSource, SkipLog
from elman.data.core.typed import as_type
from elman.data.music.midi import KEYS
from elman.data.music.rolls import Piece, parts_of, pieces
from elman.data.synthetic.tunes import tunes
from elman.data.text.corpus import ProgressCallback
from elman.tasks.base.example_processor import ExampleProcessor
from elman.tasks.music.options import MusicOptions

#: Pieces made by the program, and frames of a beat in them.
MADE = {"train": 600, "test": 60}
MADE_STEPS = 2


class MusicProcessor(ExampleProcessor[MusicOptions, Piece]):
    """How pieces become frames, how often each key sounds, and how pieces begin."""

    def read(self, files: list[str]) -> RecordSource[Piece]:
        """What is asked about a trained model: of files with parts the test part."""
        divided = bool(files) and all("test" in parts_of(file) for file in files)
        return self.read_part(files, "test" if divided else None)

    def read_part(self, files: list[str], part: str | None) -> RecordSource[Piece]:
        """One of the parts that files are divided into; all that they hold where it is None."""
        if not files:
            return _made(part or "test")
        steps = self.steps_per_beat
        return pieces(files, part, steps_per_beat=steps, skip_bad=self.options.skip_bad)

    @property
    def steps_per_beat(self) -> int:
        """Frames of a beat."""
        return self.options.steps_per_beat or (4 if self.files else MADE_STEPS)

    def fit(self, train: RecordSource[Piece], report: ProgressCallback) -> dict[str, Any]:
        return {}

    def encode(self, record: Piece, source: RecordSource[Piece]) -> Mapping[str, Any] | None:
        roll = self.cut(record.roll.astype(np.float32), record, source)
        if roll is not None and len(roll) < 2:
            source.skipped.add("piece of one frame, which has no next one", record.where)
            roll = None
        return None if roll is None else {"x": roll[:-1], "tags": roll[1:]}

    def fit_encoded(self) -> dict[str, Any]:
        """Count keys and first frames of the training part as it was encoded, and save them in the
        run folder.

        Returns more of the `metadata`: the length.
        """
        train = self.examples("train")
        sums, openings = np.zeros(KEYS), []
        for row in train:
            sums += np.asarray(row["tags"]).sum(0)
            openings.append(np.flatnonzero(np.asarray(row["x"])[0]).tolist())
        sizes = train.sizes("x")
        share = (sums + 1) / (sizes.sum() + 2)
        write_json(self._keys_file, {"share": share.tolist(), "openings": openings})
        return {"length": int(np.median(sizes)) + 1}

    @property
    def _keys_file(self) -> Path:
        return self.run.folder / "keys.json"

    @property
    def known(self) -> dict[str, Any]:
        """Of the training part: how often each key sounds, and the first frame of each piece."""
        return loaded(self._keys_file, "keys", _keys)

    @property
    def length(self) -> int:
        """Frames of the median piece of the training part."""
        return self.positive("length")


def _made(part: str) -> RecordSource[Piece]:
    def read(skipped: SkipLog) -> Any:
        seed = list(MADE).index(part)
        for number, (name, roll) in enumerate(tunes(MADE[part], seed)):
            yield Piece(roll, f"made {name} {number + 1}")

    return RecordSource("scales, arpeggios and canons, made", read)


def _keys(value: Any) -> dict[str, Any]:
    share = as_type(list[float], value["share"], "share")
    openings = as_type(list[list[int]], value["openings"], "openings")
    if len(share) != KEYS or not all(0 < p < 1 for p in share):
        raise ValueError(f"share must be {KEYS} probabilities")
    if not openings or not all(0 <= key < KEYS for opening in openings for key in opening):
        raise ValueError(f"openings must be keys of 0 ... {KEYS - 1}")
    return {"share": share, "openings": openings}
