"""Tables: which kind, which columns, and their rows one at a time."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from elman.data.core.lines import checked_encoding, unpacked_name
from elman.data.core.records import RecordSource, SkipLog
from elman.data.tables.rows import (
    Row,
    parquet_columns,
    read_cells,
    read_json_rows,
    read_parquet_rows,
)
from elman.data.text.blocks import require_text_file
from elman.errors import DataError, OptionError, unknown

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
SUFFIXES = (*DELIMITERS, *JSON_LINES, *PARQUET)


def is_table(file: str | Path) -> bool:
    """Whether a file's name is that of a table."""
    return unpacked_name(Path(file)).suffix.lower() in SUFFIXES


class TableOptions(TypedDict, total=False):
    """How a table is written.

    encoding: of all but parquet, which knows its own. header: whether the first line of a CSV or
    TSV file names the columns; else they are called 1, 2, ... delimiter: of CSV and TSV.
    """

    encoding: str
    header: bool
    delimiter: str | None


class Table:
    """A table that is read row by row, its kind told by the name: a.csv, a.tsv.gz, a.parquet ...

    options: see `TableOptions`. columns: their names; of JSON lines those in the first object.
    In CSV a text may be quoted; in TSV a quote is a character like any. Empty lines are skipped
    and counted.

    Raises DataError: where, what was expected, what to do.
    """

    def __init__(self, file: str | Path, **options: Unpack[TableOptions]) -> None:
        self.file = Path(file)
        self.suffix = unpacked_name(self.file).suffix.lower()
        self.encoding = checked_encoding(options.get("encoding", "utf-8"))
        self.header = options.get("header", True)
        delimiter = options.get("delimiter")
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise OptionError(f"delimiter must be one character, no quote, got {delimiter!r}")
        self.delimiter = delimiter or DELIMITERS.get(self.suffix, ",")
        require_text_file(self.file)
        if not is_table(file) or (self.suffix in PARQUET and self.file.suffix == ".gz"):
            raise DataError(
                f"{self.file}: a table is {', '.join(SUFFIXES)} (or .gz, all but parquet); "
                "save it as one of these"
            )
        self.columns = self._columns()

    def rows(self, skipped: SkipLog) -> Iterator[Row]:
        """All rows from the first to the last; DataError where one is not as the first."""
        if self.suffix in PARQUET:
            return read_parquet_rows(self.file)
        if self.suffix in JSON_LINES:
            return read_json_rows(self.file, self.encoding, skipped)
        return self._rows_of_cells(skipped)

    def values(self, skipped: SkipLog) -> Iterator[tuple[str, list[Any]]]:
        """Where each row stands, and its values in the order of the columns."""
        if self.suffix in (*PARQUET, *JSON_LINES):
            for where, values in self.rows(skipped):
                yield where, [values.get(name) for name in self.columns]
            return
        yield from self._whole_cells(skipped)

    def require(self, names: Iterable[str]) -> None:
        """Raise DataError for the first name that is no column; it lists those that are."""
        for name in names:
            if name not in self.columns:
                error = unknown("column", name, self._shown())
                raise DataError(f"{self.file}: {error}{self._hint()}")

    def find(self, what: str, usual: Sequence[str], name: str | None = None) -> str:
        """The column of this name, or where none is given the first that has a usual name.

        Raises DataError where there is none; it lists the columns that there are.
        """
        if name is not None:
            self.require([name])
            return name
        by_lower_case = {column.lower(): column for column in reversed(self.columns)}
        for candidate in usual:
            if candidate in by_lower_case:
                return by_lower_case[candidate]
        shown = self._shown()
        raise DataError(
            f"{self.file}: which column is the {what}? It has {', '.join(shown)}; name one, as in "
            f"--{what}-column {shown[0]}{self._hint()}"
        )

    def _shown(self) -> list[str]:
        names = [name if len(name) < 40 else name[:37] + "..." for name in self.columns]
        return names if len(names) <= 20 else [*names[:19], f"... ({len(names)} in all)"]

    def _hint(self) -> str:
        if self.suffix not in DELIMITERS or not self.header:
            return ""
        other = next((d for d in ";\t|," if len(self.columns) == 1 and d in self.columns[0]), None)
        if other is not None:
            return f"; where {other!r} stands between the columns: --delimiter {other!r}"
        return "; where the first line names no columns: --no-header"

    def _columns(self) -> list[str]:
        if self.suffix in PARQUET:
            names = parquet_columns(self.file)
        elif self.suffix in JSON_LINES:
            first = next(read_json_rows(self.file, self.encoding, SkipLog()), None)
            names = [] if first is None else list(first.values)
        else:
            _, cells = next(self._cells(SkipLog()), ("", []))
            names = self._names(cells)
        if not names:
            raise DataError(f"{self.file}: holds no rows")
        return names

    def _names(self, cells: list[str]) -> list[str]:
        numbers = [str(i + 1) for i in range(len(cells))]
        if not self.header:
            return numbers
        # The index that pandas writes has no name.
        names = [cell.strip() or number for cell, number in zip(cells, numbers, strict=True)]
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise DataError(
                f"{self.file}: two columns are named '{twice}'; rename one, or where the first "
                "line names no columns: --no-header"
            )
        return names

    def _cells(self, skipped: SkipLog) -> Iterator[tuple[str, list[str]]]:
        return read_cells(self.file, self.encoding, self.delimiter, skipped)

    def _rows_of_cells(self, skipped: SkipLog) -> Iterator[Row]:
        names = self.columns
        for where, cells in self._whole_cells(skipped):
            yield Row(where, dict(zip(names, cells, strict=True)))

    def _whole_cells(self, skipped: SkipLog) -> Iterator[tuple[str, list[str]]]:
        names = self.columns
        for index, (where, cells) in enumerate(self._cells(skipped)):
            if len(cells) != len(names):
                mend = "save it as CSV" if self.delimiter == "\t" else "quote that text"
                raise DataError(
                    f"{where}: has {len(cells)} columns, but the first line has {len(names)}; "
                    f"where a text holds {self.delimiter!r}: {mend}"
                )
            if index > 0 or not self.header:
                yield where, cells


def read_rows(file: str | Path, **options: Unpack[TableOptions]) -> RecordSource[Row]:
    """The rows of a table, see `Table`."""
    table = Table(file, **options)
    return RecordSource(f"{table.file}: {', '.join(table.columns)}", table.rows)
