"""metrics.csv: what was seen of a training, a row every few steps and at every validation."""

import csv
import io
from pathlib import Path

from elman.data.core.files import write_text
from elman.data.core.reading import reading
from elman.errors import RunError

Row = dict[str, float | int | None]


class Metrics:
    """metrics.csv: rows in memory, written whole."""

    def __init__(self, path: Path, last_step: int, columns: list[str]) -> None:
        self.path = path
        self.columns = columns
        self.rows = [row for row in read_metrics(path) if (row.get("step") or 0) <= last_step]

    def add(self, **values: float | int | None) -> None:
        """One more row."""
        self.rows.append(values)

    def save(self) -> None:
        """Write all rows."""
        out = io.StringIO()
        columns = dict.fromkeys([*self.columns, *(name for row in self.rows for name in row)])
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _cell(v) for k, v in row.items()} for row in self.rows)
        write_text(self.path, out.getvalue())


def _cell(value: float | int | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def read_metrics(path: Path) -> list[Row]:
    """The rows of a metrics.csv; none where there is no such file. RunError where it is damaged."""
    if not path.is_file():
        return []
    cure = "restore it from a copy, or remove it to go on without the rows that it had"
    with reading(path, "metrics", error=RunError, cure=cure):
        text = path.read_text(encoding="utf-8")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        return [{name: _number(name, cell) for name, cell in row.items()} for row in rows]


def _number(name: str, cell: str) -> float | int | None:
    if not cell:
        return None
    return int(cell) if name in ("step", "epoch") else float(cell)
