"""Sound that comes as bytes: 16-bit little-endian PCM, raw or after the header of a WAV file."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from elman.data.audio.samples import RATES, Samples
from elman.errors import DataError

#: Seconds that are read at a time.
PIECE = 0.02
#: Of WAV: PCM, and the form that names it in an extension.
PCM, EXTENSIBLE = 1, 0xFFFE


def pcm_pieces(source: BinaryIO, sample_rate: int, seconds: float = PIECE) -> Iterator[Samples]:
    """The samples of a stream in pieces of so many seconds, at sample_rate; the last is shorter.

    Raw bytes are one channel at sample_rate. A WAV header says itself what follows: other rates
    are resampled, several channels become their mean. Raises DataError for other kinds of WAV.
    """
    head = source.read(4)
    channels, rate = (1, sample_rate) if head != b"RIFF" else _wav_header(source)
    rest = head if head != b"RIFF" else b""
    size = 2 * channels
    pieces = _frames(source, rest, size, size * max(1, round(rate * seconds)))
    samples = (np.frombuffer(p, dtype="<i2").reshape(-1, channels).mean(1) / 32768 for p in pieces)
    mono = (piece.astype(np.float32) for piece in samples)
    yield from mono if rate == sample_rate else _resampled(mono, rate, sample_rate)


def _frames(source: BinaryIO, rest: bytes, size: int, length: int) -> Iterator[bytes]:
    """Pieces of so many bytes, whole frames of size; half a frame at the end is left out."""
    while data := source.read(length - len(rest)):
        rest += data
        if len(rest) == length:
            yield rest
            rest = b""
    if len(rest) >= size:
        yield rest[: len(rest) // size * size]


def _resampled(pieces: Iterator[Samples], rate: int, sample_rate: int) -> Iterator[Samples]:
    import soxr

    stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32")
    for piece in pieces:
        yield stream.resample_chunk(piece)
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def _wav_header(source: BinaryIO) -> tuple[int, int]:
    """Channels and rate; the samples are what is read next."""
    _exactly(source, 8)
    found = None
    while True:
        name, length = struct.unpack("<4sI", _exactly(source, 8))
        if name == b"data":
            break
        chunk = _exactly(source, length + length % 2)
        if name == b"fmt ":
            if length < 16:
                raise DataError("standard input: the header of the WAV file is damaged")
            found = struct.unpack("<HHIIHH", chunk[:16])
    if found is None:
        raise DataError("standard input: the WAV file does not say what it holds (no 'fmt ')")
    kind, channels, rate, _, _, bits = found
    if kind not in (PCM, EXTENSIBLE) or bits != 16 or not channels or not rate:
        raise DataError(
            f"standard input: a WAV stream must be 16-bit PCM, got {bits} bits of kind {kind}; "
            "convert it, as with ffmpeg -i IN -c:a pcm_s16le -f wav -"
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(
            f"standard input: the WAV file's rate is {rate} Hz, not one of {RATES[0]} ... "
            f"{RATES[1]}"
        )
    return channels, rate


def _exactly(source: BinaryIO, count: int) -> bytes:
    data = source.read(count)
    if len(data) < count:
        raise DataError("standard input: ends within the header of a WAV file")
    return data
