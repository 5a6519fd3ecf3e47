"""The rows of one file, one at a time: CSV, TSV, JSON lines, parquet."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from elman.data.core.lines import opened_text, read_lines, whole_lines
from elman.data.core.reading import reading
from elman.data.core.records import SkipLog
from elman.errors import DataError

EMPTY_LINE = "empty line"


class Row(NamedTuple):
    """Column -> value, and where it stands, as in "a.csv: line 7"."""

    where: str
    values: dict[str, Any]


def read_cells(
    file: Path, encoding: str, delimiter: str, skipped: SkipLog
) -> Iterator[tuple[str, list[str]]]:
    """Where each row of CSV or TSV begins, and its cells; empty lines are counted.

    With a tab between the cells a quote is a character like any, else a text may be quoted, over
    several lines too (RFC 4180), whose ends become LF.
    """
    csv.field_size_limit(2**31 - 1)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    name, line = str(file), 1
    with opened_text(file, encoding) as source:
        reader = csv.reader(
            whole_lines(source, file), delimiter=delimiter, quoting=quoting, strict=True
        )
        try:
            for cells in reader:
                where = f"{name}: line {line}"
                line = reader.line_num + 1
                if not cells or (len(cells) == 1 and not cells[0].strip()):
                    skipped.add(EMPTY_LINE, where)
                else:
                    yield where, cells
        except csv.Error as error:
            raise DataError(
                f"{file}: line {line}: is no row of CSV ({error}); a quote within a quoted text "
                'is written twice, as in "say ""hi"""'
            ) from error


def read_json_rows(file: Path, encoding: str, skipped: SkipLog) -> Iterator[Row]:
    """The objects of a file that holds one a line; empty lines are counted."""
    for number, text in enumerate(read_lines(file, encoding), 1):
        where = f"{file}: line {number}"
        if text.strip():
            yield Row(where, _json_object(where, text))
        else:
            skipped.add(EMPTY_LINE, where)


def _json_object(where: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        if text.strip() in ("[", "{"):
            raise DataError(
                f"{where}: a JSON object must stand on one line each; turn the file into such "
                "lines, as with jq -c '.[]'"
            ) from error
        raise DataError(f"{where}: is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(
            f'{where}: must be a JSON object, as in {{"text": ...}}, got {_shortened(text)}; '
            "where the file is one list, write one object a line, as with jq -c '.[]'"
        )
    # \ud83d alone is JSON, but no character: it could be neither encoded nor written.
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{where}: holds half a character: {error}") from error
    return value


def _whole(digits: str) -> int | float:
    """A whole number; one that no float can hold is infinite, as 1e999 is."""
    return int(digits) if len(digits) < 300 else float(digits)


def _shortened(text: str) -> str:
    return text if len(text) < 40 else text[:37] + "..."


def read_parquet_rows(file: Path) -> Iterator[Row]:
    """The rows of a parquet file."""
    number = 0
    with _parquet(file) as parquet:
        for batch in parquet.iter_batches(batch_size=1024):
            for values in batch.to_pylist():
                number += 1
                yield Row(f"{file}: row {number}", values)


def parquet_columns(file: Path) -> list[str]:
    """The names of a parquet file's columns."""
    with _parquet(file) as parquet:
        return list(parquet.schema_arrow.names)


@contextmanager
def _parquet(file: Path) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    with reading(file, "parquet"), ParquetFile(file) as parquet:
        yield parquet
