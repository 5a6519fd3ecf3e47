"""Music made by the program: scales, arpeggios and canons."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from elman.data.music.midi import KEYS, LOWEST, Roll

MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
#: C D F G A.
TONICS = (48, 50, 53, 55, 57)
#: Steps of a scale on which a bar's chord stands: I IV V I, and the like.
PROGRESSIONS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4), (0, 4, 5, 3))
BARS, BEATS, PER_BEAT = 4, 4, 2
BAR = BEATS * PER_BEAT


def tunes(count: int, seed: int) -> Iterator[tuple[str, Roll]]:
    """So many pieces with their names: a scale, an arpeggio, a canon, and so on.

    A bar has four beats of two frames. seed: draws keys, modes, directions and melodies.
    """
    draw = np.random.default_rng(seed)
    for number in range(count):
        name, make = KINDS[number % len(KINDS)]
        mode = MAJOR if draw.random() < 0.5 else MINOR
        yield name, make(draw, mode, int(draw.choice(TONICS)))


def scale(draw: np.random.Generator, mode: Sequence[int], tonic: int) -> Roll:
    """Up two octaves and down, or down and up, over a held tonic."""
    up = [*range(15), *range(13, -1, -1)]
    degrees = up if draw.random() < 0.5 else [14 - degree for degree in up]
    roll = _silence(len(degrees) + 3)
    for frame, degree in enumerate([*degrees, *[degrees[-1]] * 3]):
        _strike(roll, frame, 1, _pitch(mode, tonic, degree))
    _strike(roll, 0, len(roll), tonic - 12)
    return roll


def arpeggio(draw: np.random.Generator, mode: Sequence[int], tonic: int) -> Roll:
    """Broken chords, a bar each, over their roots; the last bar sounds as a whole."""
    chords = PROGRESSIONS[draw.integers(len(PROGRESSIONS))]
    figure = ((0, 2, 4, 7, 4, 2, 0, 2), (0, 4, 2, 4, 7, 4, 2, 4))[draw.integers(2)]
    roll = _silence((len(chords) + 1) * BAR)
    for bar, root in enumerate(chords):
        for step, degree in enumerate(figure):
            _strike(roll, bar * BAR + step, 1, _pitch(mode, tonic, root + degree))
        _strike(roll, bar * BAR, BAR, _pitch(mode, tonic - 12, root))
    for degree in (-7, 0, 2, 4):
        _strike(roll, len(chords) * BAR, BAR, _pitch(mode, tonic, degree))
    return roll


def canon(draw: np.random.Generator, mode: Sequence[int], tonic: int) -> Roll:
    """A melody, and the same an octave below a bar later."""
    lengths = ((2, 2, 2, 2), (4, 2, 2), (2, 1, 1, 2, 2), (2, 2, 4))
    roll, at, degree = _silence((BARS + 1) * BAR), 0, int(draw.integers(0, 8))
    for _ in range(BARS):
        for length in lengths[draw.integers(len(lengths))]:
            pitch = _pitch(mode, tonic + 12, degree)
            _strike(roll, at, length, pitch)
            _strike(roll, at + BAR, length, pitch - 12)
            at += length
            degree = int(np.clip(degree + draw.choice((-2, -1, 1, 2)), -3, 9))
    return roll


KINDS = (("scale", scale), ("arpeggio", arpeggio), ("canon", canon))


def _pitch(mode: Sequence[int], tonic: int, degree: int) -> int:
    return tonic + 12 * (degree // len(mode)) + mode[degree % len(mode)]


def _silence(length: int) -> Roll:
    return np.zeros((length, KEYS), dtype=np.uint8)


def _strike(roll: NDArray[np.uint8], begin: int, length: int, pitch: int) -> None:
    roll[begin : begin + length, pitch - LOWEST] = 1
