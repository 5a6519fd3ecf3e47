"""MIDI files to piano rolls, and back."""

import io
from collections import defaultdict, deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import mido
import numpy as np
from numpy.typing import NDArray

from elman.data.core.files import written_aside
from elman.data.core.reading import reading
from elman.data.core.records import SkipLog
from elman.data.text.blocks import require_text_file
from elman.errors import DataError

#: The keys of a piano as MIDI counts them, A0 ... C8.
LOWEST, KEYS = 21, 88
#: The channel of drums, from 0.
DRUMS = 9
#: More frames than that are a damaged file, not music.
MOST_FRAMES = 1 << 20
TICKS_PER_BEAT = 480
VELOCITY = 80

#: [T, KEYS]: 1 where a key sounds.
Roll = NDArray[np.uint8]


class Note(NamedTuple):
    """A key of 0 ... 127 from one tick to another."""

    begin: int
    end: int
    key: int


def read_midi(file: Path, steps_per_beat: int, skipped: SkipLog) -> list[Roll]:
    """The piano rolls of a file: one, or of type 2 one for each track that has notes.

    A note sounds in the frames from the one that is nearest to its begin to the one before that
    nearest to its end, at least in one. All channels and tracks of a piece are one roll, but for
    drums, which are left out and counted, as are notes that a piano has not. Frames are parts of
    a beat, whatever the tempo; silence before the first note is no part of the roll. Pedals and
    loudness are not looked at.

    Raises DataError.
    """
    require_text_file(file)
    with reading(file, "MIDI"):
        # From memory: of a file mido would read as many bytes as a damaged head asks for.
        midi = mido.MidiFile(file=io.BytesIO(file.read_bytes()), clip=True)
    if midi.ticks_per_beat <= 0:
        raise DataError(
            f"{file}: counts time in SMPTE frames, which know no beats; save it with ticks a beat"
        )
    whole = midi.tracks if midi.type == 2 else [mido.merge_tracks(midi.tracks)]
    ticks = midi.ticks_per_beat / steps_per_beat
    found = (_notes(track, str(file), skipped) for track in whole)
    return [_roll(notes, ticks, file) for notes in found if notes]


def _notes(messages: Iterable[Any], where: str, skipped: SkipLog) -> list[Note]:
    """The notes that a piano has.

    Where a key is struck again before it was let go, each end is that of the note that began
    first. A note that is never let go ends at once.
    """
    held: dict[tuple[int, int], deque[int]] = defaultdict(deque)
    notes: list[Note] = []
    now = drums = 0
    for message in messages:
        now += message.time
        if message.type not in ("note_on", "note_off"):
            continue
        begins = message.type == "note_on" and message.velocity > 0
        if message.channel == DRUMS:
            drums += begins
            continue
        begun = held[message.channel, message.note]
        if begins:
            begun.append(now)
        elif begun:
            notes.append(Note(begun.popleft(), now, message.note))
    endless = [Note(at, at, key) for (_, key), begun in held.items() for at in begun]
    piano = [note for note in notes + endless if LOWEST <= note.key < LOWEST + KEYS]
    for reason, count in (
        ("note of drums left out", drums),
        ("note without an end", len(endless)),
        ("note that a piano has not", len(notes) + len(endless) - len(piano)),
    ):
        if count:
            skipped.add(reason, where, count)
    return piano


def _roll(notes: list[Note], ticks: float, file: Path) -> Roll:
    """The frames, of so many ticks each, from the first note to the last."""
    times = np.array([note[:2] for note in notes]) / ticks
    begin, end = np.floor(times + 0.5).astype(np.int64).T
    end = np.maximum(end, begin + 1)
    first = begin.min()
    if end.max() - first > MOST_FRAMES:
        raise DataError(f"{file}: has {end.max() - first:,} frames, more than any piece: damaged?")
    roll = np.zeros((end.max() - first, KEYS), dtype=np.uint8)
    for at, to, note in zip(begin - first, end - first, notes, strict=True):
        roll[at:to, note.key - LOWEST] = 1
    return roll


def write_midi(path: Path, roll: NDArray[Any], steps_per_beat: int, tempo: float) -> None:
    """Write a piano roll [T, KEYS] as one track; a key that goes on sounding is one long note.

    tempo: beats a minute. Raises RunError where it cannot be written.
    """
    ticks = max(TICKS_PER_BEAT // steps_per_beat, 1)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo))])
    sounding = np.pad((np.asarray(roll) > 0).astype(np.int8), ((1, 1), (0, 0)))
    changes = np.diff(sounding, axis=0)
    last = 0
    for frame, key in np.argwhere(changes):
        kind = "note_on" if changes[frame, key] > 0 else "note_off"
        wait, last = (int(frame) - last) * ticks, int(frame)
        note = LOWEST + int(key)
        track.append(mido.Message(kind, note=note, velocity=VELOCITY, time=wait))
    midi = mido.MidiFile(type=0, ticks_per_beat=ticks * steps_per_beat, tracks=[track])
    with written_aside(path) as aside:
        midi.save(aside)
