"""Every error that elman raises: where, what was expected, what was given, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral
from typing import Any


class ElmanError(Exception):
    """The family of all errors that elman raises on purpose."""


class OptionError(ElmanError, ValueError):
    """An option has a value that does not exist or makes no sense."""


class ShapeError(ElmanError, ValueError, RuntimeError):
    """A tensor has the wrong shape, dtype or device. torch raises one of the two others there."""


class PurityError(ElmanError):
    """A cell's step does what a pure function must not do."""


class UnsupportedError(ElmanError):
    """A step uses an operation that cannot be compiled; the literal loop runs it."""


class BackendError(ElmanError, RuntimeError):
    """The backend that was asked for cannot run this."""


class SavedPlanError(ElmanError, ValueError):
    """The plan in a saved graph is damaged, or this elman does not know what is in it."""


class CheckError(ElmanError, AssertionError):
    """Two ways to compute the same numbers disagree; says where, and by how much."""


class DataError(ElmanError):
    """A data file cannot be used as it is."""


class RunError(ElmanError):
    """A run folder is missing, occupied, damaged or foreign."""


class TrainingError(ElmanError):
    """Training cannot go on."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> OptionError:
    """The error for a name that is not among the valid ones, with the nearest of them."""
    names = list(valid)
    by_lower_case = {valid_name.lower(): valid_name for valid_name in names}
    near = get_close_matches(str(name).lower(), by_lower_case, n=1)
    hint = f"did you mean '{by_lower_case[near[0]]}'? " if near else ""
    return OptionError(f"unknown {kind} '{name}': {hint}valid are {', '.join(names)}")


def require_positive(**sizes: Any) -> None:
    """Raise OptionError for the first size that is not a whole number above zero."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
            raise OptionError(f"{name} must be a whole number above 0, got {size!r}")


def require_probability(**rates: Any) -> None:
    """Raise OptionError for the first rate that is outside [0, 1)."""
    for name, rate in rates.items():
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise OptionError(f"{name} must be a probability in [0, 1), got {rate!r}")
