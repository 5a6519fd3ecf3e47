"""Telephone numbers as one hears them dialled: dual tones (ITU-T Q.23) in noise."""

from collections.abc import Iterator

import numpy as np

from elman.data.audio.samples import Samples

#: Hz: the rows and the columns of the keypad.
ROWS, COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477)
KEYS = ("123", "456", "789", "*0#")
PAIRS = {key: (ROWS[i], COLUMNS[j]) for i, row in enumerate(KEYS) for j, key in enumerate(row)}
RATE = 8000


def dialled(count: int, seed: int) -> Iterator[tuple[Samples, str]]:
    """Sounds at 8000 Hz and what was dialled: three to nine keys.

    Each key sounds 40 to 150 ms, with 30 to 120 ms to the next, both tones not equally loud (up to
    4 dB) and a little off (up to 1.5 %), in hum and noise 5 to 30 dB below them.
    """
    draw = np.random.default_rng(seed)
    for _ in range(count):
        keys = "".join(draw.choice(list(PAIRS), draw.integers(3, 10)))
        yield _played(keys, draw), keys


def _played(keys: str, draw: np.random.Generator) -> Samples:
    parts = [_silence(draw)]
    for key in keys:
        parts += [_tone(key, draw), _silence(draw)]
    x = np.concatenate(parts)
    level = np.sqrt((x**2).mean()) * 10 ** (-draw.uniform(5, 30) / 20)
    hum = np.sin(2 * np.pi * draw.choice((50, 60)) / RATE * np.arange(len(x)))
    x = x + level * (draw.normal(size=len(x)) + draw.uniform(0, 1) * hum)
    return (draw.uniform(0.05, 0.9) * x / np.abs(x).max()).astype(np.float32)


def _silence(draw: np.random.Generator) -> Samples:
    return np.zeros(int(RATE * draw.uniform(0.03, 0.12)), dtype=np.float32)


def _tone(key: str, draw: np.random.Generator) -> Samples:
    t = np.arange(int(RATE * draw.uniform(0.04, 0.15))) / RATE
    x = np.zeros(len(t))
    for hertz in PAIRS[key]:
        loud, off = 10 ** (draw.uniform(-4, 0) / 20), draw.uniform(0.985, 1.015)
        x += loud * np.sin(2 * np.pi * hertz * off * t + draw.uniform(0, 2 * np.pi))
    return x.astype(np.float32)
