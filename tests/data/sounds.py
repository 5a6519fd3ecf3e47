"""Small sounds for tests: a pitch for each word."""

import numpy as np
import soundfile

RATE = 8000
PITCH = {"a": 500.0, "b": 1100.0, "c": 2300.0}


def tones(text, seconds=0.08, gap=0.05, seed=0, rate=RATE):
    """[N] samples: a tone for each letter, with silence between, in a little noise."""
    draw = np.random.default_rng(seed)
    parts = [np.zeros(int(rate * gap))]
    for letter in text:
        t = np.arange(int(rate * seconds * draw.uniform(0.8, 1.2))) / rate
        parts += [0.3 * np.sin(2 * np.pi * PITCH[letter] * t), np.zeros(int(rate * gap))]
    x = np.concatenate(parts)
    return (x + 0.003 * draw.normal(size=len(x))).astype(np.float32)


def words(count, seed=0, least=1, most=4):
    """Strings of a, b, c, of any length from least to most."""
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(list(PITCH), draw.integers(least, most + 1))) for _ in range(count)]


def write_sounds(folder, texts, seed=0, suffix=".wav", rate=RATE):
    """Write one sound for each text; the names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, text in enumerate(texts):
        names.append(f"s{number:03}{suffix}")
        x = tones(text, seed=seed * 1000 + number, rate=rate)
        soundfile.write(folder / names[-1], x, rate)
    return names
