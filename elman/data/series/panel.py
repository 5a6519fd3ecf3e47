"""Series on regular grids, on disk: standardised numbers in a file that is mapped."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.arrays import mapped_npy
from elman.data.core.files import RESTORE, loaded
from elman.data.core.typed import typed
from elman.data.series.frequency import Frequency
from elman.data.series.panel_roles import Roles
from elman.data.series.times import Times
from elman.errors import RunError

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Block:
    """Rows of one table that belong together, a step apart.

    key: the name in the column that tells series apart. begin: its first row in the file. rows:
    with those of which only the future of covariates is known. history: up to the last value.
    anchor: the time of the first row. cuts: the rows before which training and validation end.
    """

    key: str
    begin: int
    rows: int
    history: int
    anchor: int
    cuts: tuple[int, int]

    def part(self, name: str) -> tuple[int, int]:
        """The rows of a part: the first, and the one after the last."""
        bounds = (0, *self.cuts, self.history)
        at = PARTS.index(name)
        return bounds[at], bounds[at + 1]


@dataclass(frozen=True)
class Unit:
    """One series to forecast: a column of a block.

    number: of its vector in a model, from 1; 0 for one that training did not know. mean,
    deviation: standardised = (value - mean) / deviation. naive_error: the mean absolute error of
    the value one season before, on the training part, standardised: what MASE is told in.
    """

    name: str
    block: int
    column: int
    number: int
    mean: float
    deviation: float
    naive_error: float


@dataclass(frozen=True)
class Panel:
    """All series of a run, or of a file that it is asked about.

    values: [rows, F] float32, mapped, standardised, without gaps; the columns are roles.numbers.
    measured: [rows, targets], False where a target was filled in; None where none was.
    covariate_scale: (mean, deviation) of each covariate.
    """

    roles: Roles
    frequency: Frequency
    blocks: tuple[Block, ...]
    units: tuple[Unit, ...]
    covariate_scale: tuple[tuple[float, float], ...]
    values: NDArray[np.float32]
    measured: NDArray[np.bool_] | None

    @classmethod
    def open(cls, folder: Path) -> "Panel":
        """What `write_panel` wrote; RunError where it is missing, damaged or foreign."""
        about = loaded(folder / "panel.json", "series", partial(typed, _About))
        values = mapped_npy(folder / "values.npy")
        measured = mapped_npy(folder / "measured.npy") if about.gaps else None
        panel = cls(
            about.roles, about.frequency, about.blocks, about.units, about.covariate_scale, values,
            measured,
        )  # fmt: skip
        if not panel._fits():
            raise RunError(f"{folder}: is damaged: its files do not fit together; {RESTORE}")
        return panel

    def _fits(self) -> bool:
        """Whether what is said of the values is true of the values that there are."""
        rows, targets = len(self.values), len(self.roles.targets)
        values, measured = (self.values.shape, self.values.dtype), self.measured
        blocks = all(
            0 <= b.begin <= b.begin + b.rows <= rows
            and 0 <= b.cuts[0] <= b.cuts[1] <= b.history <= b.rows
            for b in self.blocks
        )
        units = all(
            0 <= u.block < len(self.blocks) and 0 <= u.column < targets and u.number >= 0
            for u in self.units
        )
        scales = [*((u.mean, u.deviation) for u in self.units), *self.covariate_scale]
        return (
            values == ((rows, len(self.roles.numbers)), np.dtype(np.float32))
            and rows == sum(block.rows for block in self.blocks)
            and (measured is None or measured.shape == (rows, targets))
            and (measured is None or measured.dtype == np.bool_)
            and blocks
            and units
            and len(self.covariate_scale) == len(self.covariates)
            and all(np.isfinite(scale).all() and scale[1] > 0 for scale in scales)
        )

    def about_json(self) -> dict[str, Any]:
        """What panel.json says."""
        return {
            "roles": self.roles.to_json(),
            "frequency": self.frequency.to_json(),
            "blocks": [asdict(block) for block in self.blocks],
            "units": [asdict(unit) for unit in self.units],
            "covariate_scale": [list(pair) for pair in self.covariate_scale],
            "gaps": self.measured is not None,
        }

    def times(self, block: Block, rows: NDArray[Any] | Sequence[int]) -> Times:
        """The times of rows of a block, counted from its first; they may lie beyond its end."""
        index = np.asarray(rows, dtype=np.int64)
        return self.frequency.from_time(block.anchor).times(index)

    @property
    def covariates(self) -> tuple[int, ...]:
        """The places of the covariates among the columns."""
        return tuple(range(len(self.roles.targets), len(self.roles.numbers)))


@dataclass(frozen=True)
class _About:
    """What panel.json says."""

    roles: Roles
    frequency: Frequency
    blocks: tuple[Block, ...]
    units: tuple[Unit, ...]
    covariate_scale: tuple[tuple[float, float], ...]
    gaps: bool
