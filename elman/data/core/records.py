"""Examples that can be read again and again, and an account of what was left out."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from elman.errors import OptionError

Record = TypeVar("Record")

#: 64 bits.
MASK = (1 << 64) - 1


class SkipLog:
    """What a pass over the data left out or mended: how often, why, and where first."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, reason: str, where: str, count: int = 1) -> None:
        """Count one more of a kind."""
        self.counts[reason] += count
        self.first.setdefault(reason, where)

    @property
    def total(self) -> int:
        """How many there are of all kinds."""
        return self.counts.total()

    def __str__(self) -> str:
        return "; ".join(
            f"{count} x {reason} (first: {self.first[reason]})"
            for reason, count in self.counts.items()
        )


class RecordSource(Generic[Record]):
    """Records read from files: each pass reads them anew, in one order, and counts what it skips.

    about: what is read, for people, as in "a.csv: text 'review', label 'stars'".
    skipped: of the pass that was begun last.
    """

    def __init__(self, about: str, read: Callable[[SkipLog], Iterator[Record]]) -> None:
        self.about = about
        self.read = read
        self.skipped = SkipLog()

    def __iter__(self) -> Iterator[Record]:
        self.skipped = SkipLog()
        return self.read(self.skipped)


def split(
    source: RecordSource[Record], fraction: float, seed: int
) -> tuple[RecordSource[Record], RecordSource[Record]]:
    """What stays, and a fraction that is held out, drawn by a hash of the record's index.

    Neither the number of records nor those after it change where a record goes, and nothing is
    held in memory. Each of both reads the files to the end, and counts all that they skip.

    Raises OptionError for a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise OptionError(f"fraction must lie between 0 and 1, got {fraction!r}")

    key = _mixed(seed & MASK)

    def part(held: bool) -> Callable[[SkipLog], Iterator[Record]]:
        def read(skipped: SkipLog) -> Iterator[Record]:
            for index, record in enumerate(source.read(skipped)):
                if (_uniform(index, key) < fraction) == held:
                    yield record

        return read

    percent = f"{100 * fraction:g} %"
    return (
        RecordSource(f"{source.about}, without {percent} held out", part(False)),
        RecordSource(f"{source.about}, {percent} held out", part(True)),
    )


def _uniform(index: int, key: int) -> float:
    """A number in [0, 1) that both decide: splitmix64, Steele et al. 2014."""
    return _mixed((index * 0x9E3779B97F4A7C15 + key) & MASK) / 2.0**64


def _mixed(z: int) -> int:
    z = (z + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)
