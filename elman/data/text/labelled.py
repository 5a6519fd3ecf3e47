"""Texts with a label: a table with a column of each, or one text file for each label."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from elman.data.core.lines import read_lines, unpacked_name
from elman.data.core.records import RecordSource, SkipLog
from elman.data.tables.rows import EMPTY_LINE, Row
from elman.data.tables.table import SUFFIXES, Table, TableOptions, is_table
from elman.data.text.blocks import require_text_file
from elman.errors import DataError

TEXT_NAMES = ("text", "sentence", "review", "content", "utterance", "sequence")
LABEL_NAMES = ("label", "class", "intent", "category", "target", "sentiment")


class LabelledText(NamedTuple):
    """One text, its label, and where it stands."""

    text: str
    label: str
    where: str


def labelled_texts(
    files: Sequence[str | Path],
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    labelled: bool = True,
    **options: Unpack[TableOptions],
) -> RecordSource[LabelledText]:
    """Texts with labels from tables of one kind, or from plain text files, one for each label.

    Tables: the columns are found by their usual names where they are not given; those of the
    first table hold for all. Plain text: each line is one text; the labels are what tells the
    files apart, the stem (pos.txt, neg.txt), else the suffix (mr.pos, mr.neg), else the folder.
    Rows without text or label are skipped and counted. labelled: False looks for no labels, and
    all are "". options: see `TableOptions`.

    Raises DataError: which file, what was expected, what to do.
    """
    paths = [Path(file) for file in files]
    if not paths:
        raise DataError("no file is given to read labelled texts from")
    if all(is_table(path) for path in paths):
        tables = [Table(path, **options) for path in paths]
        return _from_tables(tables, text_column, label_column, labelled)
    mixed = next((path for path in paths if is_table(path)), None)
    if mixed is not None:
        raise DataError(f"{mixed}: is a table, and others are none; give files of one kind")
    for name, value in (("text", text_column), ("label", label_column)):
        if value is not None:
            raise DataError(
                f"{paths[0]}: has no columns, so none can be the {name} ('{value}'); a table is "
                f"{', '.join(SUFFIXES)}"
            )
    return _from_files(paths, options.get("encoding", "utf-8"), labelled)


def _from_tables(
    tables: Sequence[Table], text_column: str | None, label_column: str | None, labelled: bool
) -> RecordSource[LabelledText]:
    text = tables[0].find("text", TEXT_NAMES, text_column)
    label = tables[0].find("label", LABEL_NAMES, label_column) if labelled else None
    if text == label:
        raise DataError(f"{tables[0].file}: column '{text}' cannot be both text and label")
    for table in tables[1:]:
        table.require([text] if label is None else [text, label])

    def read(skipped: SkipLog) -> Iterator[LabelledText]:
        for table in tables:
            for row in table.rows(skipped):
                name = "" if label is None else label_of(row, label)
                record = LabelledText(text_of(row, text), name, row.where)
                if not record.text.strip():
                    skipped.add("row without text", row.where)
                elif labelled and not record.label:
                    skipped.add("row without label", row.where)
                else:
                    yield record

    names = ", ".join(str(table.file) for table in tables)
    about = f"{names}: text '{text}'"
    return RecordSource(about if label is None else f"{about}, label '{label}'", read)


def _from_files(paths: Sequence[Path], encoding: str, labelled: bool) -> RecordSource[LabelledText]:
    for path in paths:
        require_text_file(path)
    labels = labels_of_files(paths) if labelled else [""] * len(paths)
    lines = [(path, label) for path, label in zip(paths, labels, strict=True)]
    for path in paths:
        # What is wrong with a file is said before the first is read.
        next(read_lines(path, encoding), None)

    def read(skipped: SkipLog) -> Iterator[LabelledText]:
        for path, label in lines:
            for number, text in enumerate(read_lines(path, encoding), 1):
                where = f"{path}: line {number}"
                if text.strip():
                    yield LabelledText(text, label, where)
                else:
                    skipped.add(EMPTY_LINE, where)

    named = (f"{path}: label '{label}'" if labelled else str(path) for path, label in lines)
    return RecordSource(", ".join(named), read)


def labels_of_files(paths: Sequence[Path]) -> list[str]:
    """The shortest part of the names that tells the files apart: stem, suffix or folder.

    Raises DataError where there is none, or one file alone.
    """
    if len(paths) == 1:
        raise DataError(
            f"{paths[0]}: one text file holds no labels; give one file for each label, or a table "
            f"with a column of labels ({', '.join(SUFFIXES)})"
        )
    names = [unpacked_name(path) for path in paths]
    candidates = (
        [name.stem for name in names],
        [name.suffix.removeprefix(".") for name in names],
        [path.resolve().parent.name for path in paths],
    )
    for labels in candidates:
        if len(set(labels)) == len(labels) and all(labels):
            return labels
    raise DataError(
        f"{', '.join(map(str, paths))}: neither their names nor their suffixes nor their folders "
        "tell the files apart; each gives the label of its lines, so rename them"
    )


def text_of(row: Row, column: str) -> str:
    """A text in a row, "" where there is none; DataError where it is of another kind."""
    value = _value(row, column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{row.where}: '{column}' must be a text, got {value!r}")
    return value


def label_of(row: Row, column: str) -> str:
    """A label in a row, "" where there is none; numbers are labels too, 1.0 is 1."""
    value = _value(row, column)
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float):
        raise DataError(f"{row.where}: '{column}' must be a label or a number, got {value!r}")
    return str(value).strip()


def _value(row: Row, column: str) -> Any:
    try:
        return row.values[column]
    except KeyError as error:
        raise DataError(
            f"{row.where}: has no '{column}', it has {', '.join(row.values) or 'nothing'}"
        ) from error
