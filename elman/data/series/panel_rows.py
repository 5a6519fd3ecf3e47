"""The rows of tables of series, wide or long, in batches of numbers."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray

from elman.data.core.records import SkipLog
from elman.data.series.panel_roles import SAMPLE_ROWS, Named, Roles, find_roles, numbers, texts
from elman.data.series.times import TimeFormat, Times
from elman.data.tables.table import Table, TableOptions
from elman.errors import DataError

#: Rows that are read at once.
BATCH_ROWS = 1 << 16


class Rows(NamedTuple):
    """Some rows: where each stands, its time, the number of its series, its values [N, F]."""

    where: Sequence[str]
    times: Times
    keys: NDArray[np.int32]
    values: NDArray[np.float64]


class PanelRows:
    """The rows of tables that are read one after the other as one.

    keys: the names of the series, filled while reading. Raises DataError, OptionError.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        roles: Roles | None = None,
        named: Named | None = None,
        **options: Unpack[TableOptions],
    ) -> None:
        """roles: of a table that was read before; named: what a person said of this one."""
        if not files:
            raise DataError("no file is given to read series from")
        self.tables = [Table(file, **options) for file in files]
        self.roles = roles or find_roles(self.tables[0], named or Named())
        self.keys: dict[str, int] = {} if self.roles.series else {"": 0}
        for table in self.tables:
            needed = (self.roles.time, self.roles.series, *self.roles.numbers)
            table.require(name for name in needed if name is not None)
        self.row = 0

    @property
    def about(self) -> str:
        """What is read, for people."""
        r = self.roles
        names = ", ".join(str(table.file) for table in self.tables)
        time = "a row a step" if r.time is None else f"time '{r.time}' ({r.time_format})"
        parts = [f"{names}: {time}"]
        if r.series:
            parts.append(f"series '{r.series}'")
        parts.append(f"forecast {_listed(r.targets)}")
        for word, columns in (
            ("future covariates", r.future_covariates),
            ("past covariates", r.past_covariates),
            ("not read", r.ignored),
        ):
            if columns:
                parts.append(f"{word} {_listed(columns)}")
        return ", ".join(parts)

    def batches(self, skipped: SkipLog) -> Iterator[Rows]:
        """All rows, some at once; those without a time are counted."""
        for table in self.tables:
            rows, form = table.values(skipped), None
            while some := list(islice(rows, BATCH_ROWS)):
                where, values = zip(*some, strict=True)
                columns = dict(zip(table.columns, zip(*values, strict=True), strict=True))
                if form is None and self.roles.time is not None:
                    sample = texts(columns[self.roles.time])[:SAMPLE_ROWS]
                    form = TimeFormat.of(sample, usual=self.roles.time_format)
                yield self._numbers(where, columns, form, skipped)

    def _numbers(
        self,
        where: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
        form: TimeFormat | None,
        skipped: SkipLog,
    ) -> Rows:
        r = self.roles
        found = [numbers(columns[name], name, where, r.comma) for name in r.numbers]
        values = np.stack(found, axis=1)
        keys = self._keys(columns)
        if r.time is None:
            times = np.arange(self.row, self.row + len(where), dtype=np.int64)
            self.row += len(where)
            return Rows(where, times, keys, values)
        stamps = texts(columns[r.time])
        there = np.array([bool(stamp) for stamp in stamps])
        if not there.all():
            skipped.add("row without a time", where[int(np.argmin(there))], int((~there).sum()))
            kept = np.flatnonzero(there).tolist()
            where, stamps = [where[i] for i in kept], [stamps[i] for i in kept]
            keys, values = keys[there], values[there]
        form = form or TimeFormat(r.time_format)
        return Rows(where, form(stamps, where), keys, values)

    def _keys(self, columns: Mapping[str, Sequence[Any]]) -> NDArray[np.int32]:
        if self.roles.series is None:
            return np.zeros(len(next(iter(columns.values()))), dtype=np.int32)
        names = texts(columns[self.roles.series])
        known = self.keys
        return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int32)


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} ... ({len(names)} in all)"
