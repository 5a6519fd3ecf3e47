"""Sounds: files as the samples of one channel, at one rate."""

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.reading import is_file, reading
from elman.data.core.records import SkipLog
from elman.errors import DataError, OptionError

#: Names of files that are taken for sounds in a folder.
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au")

#: Full scale is 1, but of files that hold whole numbers as floats; what is more is damage.
LOUDEST = 2.0**31
#: Samples that a byte holds at most: 8 kbit/s of MP3 are 24; silence in FLAC is 4700.
MP3_DENSEST, DENSEST = 64, 8192
#: Samples that are read at once.
PIECE = 1 << 16

Samples = NDArray[np.float32]
#: The rates, in Hz, of sounds that are heard.
RATES = 1000, 400_000
#: A length of this or more in a WAV file's head stands for one that was not known.
UNKNOWN = 0x7FFF_0000


@dataclass(frozen=True)
class Sound:
    """A sound that is read when it is needed, and what is known of it.

    source: a file, or (samples [N], Hz) that the program made. text: its label or transcript.
    speed: played so many times as fast, which raises its pitch too.
    """

    source: Path | tuple[Samples, int]
    text: str
    where: str
    speed: float = 1.0

    @property
    def label(self) -> str:
        """The text, where it is a label."""
        return self.text

    def samples(self, sample_rate: int, skipped: SkipLog, skip_bad: bool = False) -> Samples | None:
        """[N] at this rate; None where it is to be left out, which is counted: an empty or silent
        sound, and with skip_bad one that cannot be read. Raises DataError for that otherwise."""
        try:
            x, rate = self._read(skipped)
        except DataError as error:
            if not skip_bad:
                raise DataError(f"{error}; or leave out what is like it: --skip-bad") from error
            skipped.add("sound that cannot be read", self.where)
            return None
        if not len(x) or not np.abs(x).max() > 0:
            skipped.add("silent sound" if len(x) else "sound without samples", self.where)
            return None
        if rate != sample_rate:
            skipped.add(f"sound resampled from {rate} to {sample_rate} Hz", self.where)
        return resampled(x, rate * self.speed, sample_rate)

    def _read(self, skipped: SkipLog) -> tuple[Samples, int]:
        if isinstance(self.source, tuple):
            return self.source
        return read_sound(self.source, skipped, self.where)


def is_sound(file: str | Path) -> bool:
    """Whether a file's name is that of a sound."""
    return Path(file).suffix.lower() in SUFFIXES


def sounds_below(folder: Path) -> list[Path]:
    """The sounds in a folder and in those in it, by name."""
    found = (path for path in folder.rglob("*") if is_sound(path) and path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def read_sound(file: Path, skipped: SkipLog, where: str = "") -> tuple[Samples, int]:
    """The samples [N] of a file and its rate in Hz; several channels become their mean, counted.

    Raises DataError: which file, what it is not.
    """
    with opened_sound(file) as opened:
        pieces = list(_pieces(opened, file.stat().st_size))
        x = np.concatenate(pieces) if pieces else np.zeros((0, opened.channels), np.float32)
        rate, is_wav = int(opened.samplerate), opened.format in ("WAV", "WAVEX")
    if is_wav and _ends_early(file):
        skipped.add("sound that ends before its head says", where or str(file))
    if not (np.abs(x) <= LOUDEST).all():
        raise DataError(f"{file}: holds samples that are no numbers, or far beyond full scale")
    if x.shape[1] > 1:
        skipped.add(f"sound of {x.shape[1]} channels mixed to one", where or str(file))
    return x.mean(axis=1, dtype=np.float32), rate


def _pieces(opened: Any, size: int) -> Iterator[Any]:
    """All samples [n, channels], some at a time: a damaged head may promise billions of them, and
    the decoder of MP3 makes as many, of nothing. Raises ValueError."""
    most = size * (MP3_DENSEST if opened.format == "MP3" else DENSEST)
    for piece in opened.blocks(PIECE, dtype="float32", always_2d=True):
        most -= len(piece)
        if most < 0:
            raise ValueError(f"it has more samples than {size} bytes can hold")
        yield piece


def rate_of(file: Path) -> int:
    """A sound's samples a second; DataError where it cannot be read."""
    with opened_sound(file) as opened:
        return int(opened.samplerate)


@contextmanager
def opened_sound(file: Path) -> Iterator[Any]:
    """A sound file, open; what goes wrong with it is a DataError that names it."""
    import soundfile

    if not is_file(file):
        raise DataError(f"{file}: {'is a folder' if file.is_dir() else 'no such file'}")
    cure = "expected WAV, FLAC, OGG, MP3 or AIFF: save it as one of these"
    with reading(file, "a sound", cure=cure), soundfile.SoundFile(file) as opened:
        if opened.format == "MP3" and not _begins_as_mp3(file):
            raise ValueError("it holds what looks like MP3, but does not begin so")
        least, most = RATES
        if not least <= opened.samplerate <= most:
            raise ValueError(f"its rate is {opened.samplerate} Hz, not one of {least} ... {most}")
        yield opened


def _begins_as_mp3(file: Path) -> bool:
    """Whether a file begins with a frame of MPEG or an ID3 tag: the decoder finds frames in any."""
    with file.open("rb") as source:
        head = source.read(3)
    return head == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)


def _ends_early(file: Path) -> bool:
    """Whether a WAV file holds less than its head says: it was not copied whole."""
    size = file.stat().st_size
    with file.open("rb") as source:
        head = source.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return False
        while len(chunk := source.read(8)) == 8:
            name, length = struct.unpack("<4sI", chunk)
            if name == b"data":  # a program that writes as it records may not know the length
                return length < UNKNOWN and source.tell() + length > size
            source.seek(length + length % 2, 1)
    return False


def resampled(x: Samples, rate: float, sample_rate: float) -> Samples:
    """Samples at another rate, by soxr."""
    if rate == sample_rate:
        return x
    import soxr

    return np.asarray(soxr.resample(x, rate, sample_rate), dtype=np.float32)


def checked_rate(sample_rate: int | None) -> int | None:
    """A rate that makes sense for sounds that are heard; OptionError for others."""
    least, most = RATES
    if sample_rate is not None and not least <= sample_rate <= most:
        raise OptionError(f"sample_rate must lie in {least} ... {most} Hz, got {sample_rate}")
    return sample_rate


def first_rate(sounds: Iterable[Sound]) -> int | None:
    """The rate of the first sound that can be read."""
    for sound in sounds:
        if isinstance(sound.source, tuple):
            return sound.source[1]
        try:
            return rate_of(sound.source)
        except DataError:
            continue
    return None
