"""Series on regular grids, on disk: standardised numbers in a file that is mapped."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.files import read_json
from elman.data.frequency import Frequency
from elman.data.panel_roles import Roles
from elman.data.times import Times
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
        about = read_json(folder / "panel.json")
        try:
            roles = Roles.from_json(about["roles"])
            blocks = tuple(Block(**{**b, "cuts": tuple(b["cuts"])}) for b in about["blocks"])
            units = tuple(Unit(**u) for u in about["units"])
            scale = tuple((float(m), float(d)) for m, d in about["covariate_scale"])
            values = _mapped(folder / "values.npy")
            measured = _mapped(folder / "measured.npy") if about["gaps"] else None
            frequency = Frequency.from_json(about["frequency"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{folder}: holds no series that elman wrote: {error!r}") from error
        rows = sum(block.rows for block in blocks)
        whole = values.shape == (rows, len(roles.numbers)) and values.dtype == np.float32
        if not whole or (measured is not None and len(measured) != rows):
            raise RunError(f"{folder}: is damaged: its files do not fit together; train anew")
        return cls(roles, frequency, blocks, units, scale, values, measured)

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


def _mapped(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"{path}: is missing or damaged ({error}); train anew") from error
