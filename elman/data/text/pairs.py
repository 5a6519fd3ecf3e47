"""Pairs of texts, one made from the other: parallel files, or a table with a column of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from elman.data.core.lines import read_lines
from elman.data.core.records import RecordSource, SkipLog
from elman.data.tables.table import DELIMITERS, SUFFIXES, Table, TableOptions, is_table
from elman.data.text.labelled import text_of
from elman.data.text.tagged import parallel_lines
from elman.errors import DataError

SOURCE_NAMES = ("source", "src", "input", "question")
TARGET_NAMES = ("target", "tgt", "output", "answer")


@dataclass(frozen=True, slots=True)
class Pair:
    """A text, what is to be made of it, and where it stands."""

    source: str
    target: str
    where: str


def text_pairs(
    files: Sequence[str | Path],
    *,
    source_column: str | None = None,
    target_column: str | None = None,
    **options: Unpack[TableOptions],
) -> RecordSource[Pair]:
    """Pairs of texts from one table, or from two text files whose lines belong together.

    Tables: the columns are found by their usual names where they are not given; CSV and TSV have
    else the source in the first, the target in the second. Pairs with an empty side are skipped
    and counted. options: see `TableOptions`.

    Raises DataError: which file and line, what was expected, what to do.
    """
    paths = [Path(file) for file in files]
    if len(paths) == 1 and is_table(paths[0]):
        return _from_table(Table(paths[0], **options), source_column, target_column)
    if len(paths) != 2:
        raise DataError(
            f"pairs are read from two text files, source and target, or from one table "
            f"({', '.join(SUFFIXES)}); got {', '.join(map(str, paths)) or 'no file'}"
        )
    return _from_files(paths, options.get("encoding", "utf-8"))


def _from_files(paths: Sequence[Path], encoding: str) -> RecordSource[Pair]:
    for path in paths:
        next(read_lines(path, encoding), None)

    def read(skipped: SkipLog) -> Iterator[Pair]:
        for where, (source, target) in parallel_lines(paths, encoding):
            yield from _whole(Pair(source, target, where), skipped)

    return RecordSource(f"{paths[0]}: source, {paths[1]}: target", read)


def _from_table(table: Table, source: str | None, target: str | None) -> RecordSource[Pair]:
    first, second = _columns(table, source, target)
    if first == second:
        raise DataError(f"{table.file}: column '{first}' cannot be both source and target")

    def read(skipped: SkipLog) -> Iterator[Pair]:
        for row in table.rows(skipped):
            yield from _whole(Pair(text_of(row, first), text_of(row, second), row.where), skipped)

    return RecordSource(f"{table.file}: source '{first}', target '{second}'", read)


def _columns(table: Table, source: str | None, target: str | None) -> tuple[str, str]:
    names = {name.lower() for name in table.columns}
    usual = names & set(SOURCE_NAMES) and names & set(TARGET_NAMES)
    if source is None and target is None and not usual and table.suffix in DELIMITERS:
        if len(table.columns) < 2:
            table.find("target", TARGET_NAMES)
        return table.columns[0], table.columns[1]
    return table.find("source", SOURCE_NAMES, source), table.find("target", TARGET_NAMES, target)


def _whole(pair: Pair, skipped: SkipLog) -> Iterator[Pair]:
    if pair.source.strip() and pair.target.strip():
        yield pair
        return
    empty = "source" if pair.target.strip() else "target" if pair.source.strip() else "line"
    skipped.add(f"empty {empty}", pair.where)
