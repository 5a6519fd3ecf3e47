"""What the further measurements have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

from elman.benchmarks.grid import Point
from elman.benchmarks.subjects import Subject


@dataclass(frozen=True)
class Settings:
    """points: where to measure, None for each measurement's own. budget: seconds of repeats."""

    subjects: Sequence[Subject]
    points: Sequence[Point] | None
    budget: float

    def at(self, *own: Point) -> Sequence[Point]:
        """The points asked for, else these."""
        return self.points or own


@dataclass(frozen=True)
class Finding:
    """One number: of what, where, in which unit, and what elman claims it to be.

    value: None where it could not be measured; then ``note`` says why.
    """

    extra: str
    what: str
    at: str
    value: float | None
    unit: str
    claim: str = ""
    note: str = ""
