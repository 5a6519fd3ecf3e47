"""For people who write cells: `check_cell` and `assert_close`."""

from typing import Any

from elman.backends.reference.tolerance import TOLERANCE
from elman.testing.check import CellReport, check_cell
from elman.testing.close import assert_close

__all__ = ["TOLERANCE", "CellReport", "assert_close", "check_cell", "fuzz"]


def __getattr__(name: str) -> Any:
    if name == "fuzz":  # it is seldom wanted
        from importlib import import_module

        return import_module("elman.testing.fuzz")
    raise AttributeError(f"module 'elman.testing' has no attribute '{name}'")
