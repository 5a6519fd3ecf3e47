"""For people who write cells: `check_cell` and `assert_close`."""

from elman.testing.check import CellReport, check_cell
from elman.testing.close import TOLERANCE, assert_close

__all__ = ["TOLERANCE", "CellReport", "assert_close", "check_cell"]
