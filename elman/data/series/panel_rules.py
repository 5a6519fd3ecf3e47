"""Where the parts of series end, and what is done with tables that are not as they should be."""

from dataclasses import dataclass

import numpy as np

from elman.data.series.frequency import Frequency
from elman.data.series.times import time_of
from elman.errors import OptionError

#: What takes the place of missing values.
FILLS = ("carry", "zero", "error")


@dataclass(frozen=True)
class Cuts:
    """Where training ends and validation ends: as shares of the whole time, or as dates."""

    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    valid_from: str | None = None
    test_from: str | None = None

    def steps(self, frequency: Frequency, total: int) -> tuple[int, int]:
        """The steps, counted from the first of all, before which training and validation end."""
        test = total - round(self.test_fraction * total)
        if self.test_from is not None:
            test = _step(frequency, self.test_from, "test_from")
        valid = total - round((self.valid_fraction + self.test_fraction) * total)
        if self.test_from is not None:
            valid = test - round(self.valid_fraction * total)
        if self.valid_from is not None:
            valid = _step(frequency, self.valid_from, "valid_from")
        if not 0 < valid < test <= total:
            raise OptionError(
                f"training must end before validation and that before the test part: of {total} "
                f"steps they would end at {valid}, {test} and {total}"
            )
        return valid, test


def _step(frequency: Frequency, text: str, what: str) -> int:
    if frequency.unit == "step":
        if not text.strip().isdigit():
            raise OptionError(f"{what}: steps are numbers here, got '{text}'")
        return (int(text) - frequency.anchor) // frequency.every
    return int(frequency.index(np.array([time_of(text, what)]))[0])


@dataclass(frozen=True)
class Rules:
    """What is done with tables that are not as they should be.

    frequency: its name, None where it is found out. season: None: the frequency's.
    """

    frequency: str | None = None
    duplicates: str = "error"
    missing: str = "carry"
    season: int | None = None
