"""The sizes that are measured."""

from dataclasses import dataclass

from elman.errors import OptionError


@dataclass(frozen=True)
class Point:
    """A batch of B sequences of T steps, with as many inputs as units: I = H."""

    batch: int
    hidden: int
    steps: int

    def __str__(self) -> str:
        return f"{self.batch}, {self.hidden}, {self.steps}"


FULL = tuple(
    Point(*sizes)
    for sizes in (
        (1, 64, 1024),
        (1, 256, 1024),
        (1, 512, 256),
        (16, 256, 100),
        (16, 512, 256),
        (32, 512, 100),
        (64, 128, 100),
        (64, 1024, 64),
        (256, 128, 256),
        (20, 200, 35),
    )
)
QUICK = (Point(1, 64, 1024), Point(16, 256, 100), Point(64, 128, 100))
NAMED = {"full": FULL, "quick": QUICK}


def points_of(grids: list[str]) -> tuple[Point, ...]:
    """Named grids and single points, as "B,H,T", in the order given and each once.

    Raises OptionError where one is neither.
    """
    found = [point for grid in grids for point in NAMED.get(grid.lower()) or (_point(grid),)]
    return tuple(dict.fromkeys(found))


def _point(text: str) -> Point:
    numbers = [part.strip() for part in text.split(",")]
    if len(numbers) != 3 or not all(n.isdecimal() and int(n) > 0 for n in numbers):
        raise OptionError(
            f"--grid '{text}': give {', '.join(NAMED)}, or a point B,H,T of whole numbers above "
            "0, as 16,256,100"
        )
    return Point(*(int(n) for n in numbers))
