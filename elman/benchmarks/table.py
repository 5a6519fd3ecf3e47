"""What was measured, for people and as JSON."""

import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib import metadata
from itertools import groupby
from typing import Any

import torch
from rich.table import Table

from elman.benchmarks.finding import Finding
from elman.benchmarks.peers import ELMAN
from elman.benchmarks.problem import LIMIT
from elman.benchmarks.run import Row


def geometric_mean(ratios: Iterable[float | None]) -> float | None:
    """exp(mean(log ratio)) of those that there are."""
    known = [math.log(r) for r in ratios if r is not None]
    return math.exp(sum(known) / len(known)) if known else None


def tables(rows: Sequence[Row]) -> list[Table]:
    """One table for each cell and mode."""
    return [_table(group) for group in _groups(rows)]


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    def key(row: Row) -> tuple[str, bool]:
        return row.cell, row.training

    # Sorting is stable: the points stay in order, and so do the cells.
    order = {row.cell: place for place, row in reversed(list(enumerate(rows)))}
    by_cell = sorted(rows, key=lambda row: (order[row.cell], row.training))
    return [list(group) for _, group in groupby(by_cell, key)]


def _peers(group: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in group for name in row.times if name != ELMAN))


def _table(group: Sequence[Row]) -> Table:
    names = _peers(group)
    table = Table(title=f"{group[0].cell}, {group[0].mode}, ms", title_justify="left")
    for name in ("B, H, T", ELMAN, *names, "ratio"):
        table.add_column(name, justify="right", no_wrap=name == "B, H, T")
    for row in group:
        table.add_row(str(row.point), *_cells(row, names))
    means = [_times_faster(geometric_mean(row.ratio(name) for row in group)) for name in names]
    mean = geometric_mean(row.ratio() for row in group)
    table.add_section()
    table.add_row("geometric mean", "", *means, _coloured(mean))
    return table


def _cells(row: Row, names: Sequence[str]) -> list[str]:
    if row.wrong is not None:
        return [f"[bold red]WRONG[/] {row.wrong}: {row.error:.1e}", *([""] * len(names)), ""]
    shown = [_milliseconds(row, name) for name in (ELMAN, *names)]
    return [*shown, _coloured(row.ratio())]


def _milliseconds(row: Row, name: str) -> str:
    if name in row.left_out:
        return f"other numbers: {row.left_out[name]:.0e}"
    if name not in row.times:
        return ""
    text = f"{row.times[name].median_ms:.3g}" if row.times[name].median_ms < 100 else ""
    text = text or f"{row.times[name].median_ms:.0f}"
    return f"[bold]{text}[/]" if name == row.best_peer else text


def _times_faster(ratio: float | None) -> str:
    return "" if ratio is None else f"x {ratio:.2f}"


def _coloured(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"[{'green' if ratio >= 1 else 'red'}]{ratio:.2f}[/]"


def finding_tables(found: Sequence[Finding]) -> list[Table]:
    """One table for each of the further measurements."""
    shown = []
    for name, group in groupby(found, lambda f: f.extra):
        table = Table(title=name, title_justify="left")
        for column in ("what", "where", "value", "", "claim", "note"):
            table.add_column(column, justify="right" if column == "value" else "left")
        for f in group:
            value = "" if f.value is None else f"{f.value:.3g}"
            table.add_row(f.what, f.at, value, f.unit, f.claim, f.note)
        shown.append(table)
    return shown


def explanation(missing: dict[str, str]) -> str:
    """What the numbers mean, and who is not among them."""
    lines = [
        "ratio: the time of the fastest peer (in bold) over elman's; above 1 elman is faster. "
        "float32, the input product and all gradients included, each peer at its best setting, "
        "medians of turns in one run.",
    ]
    lines += [f"left out: {name}, {reason}" for name, reason in missing.items()]
    return "\n".join(lines)


def as_json(
    rows: Sequence[Row], missing: dict[str, str], extras: Sequence[Finding] = ()
) -> dict[str, Any]:
    """Everything, with the machine that it was measured on."""
    return {
        "machine": machine(),
        "tolerance": LIMIT,
        "rows": [_row(row) for row in rows],
        "summary": [_summary(group) for group in _groups(rows)],
        "missing": missing,
        "extras": [asdict(found) for found in extras],
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "cell": row.cell,
        "mode": row.mode,
        "B": row.point.batch,
        "H": row.point.hidden,
        "T": row.point.steps,
        "error": row.error if math.isfinite(row.error) else str(row.error),
        "wrong": row.wrong,
        "times": {name: asdict(times) for name, times in row.times.items()},
        "left_out": {n: e if math.isfinite(e) else str(e) for n, e in row.left_out.items()},
        "best_peer": row.best_peer,
        "ratio": row.ratio(),
    }


def _summary(group: Sequence[Row]) -> dict[str, Any]:
    ratios = [r for row in group if (r := row.ratio()) is not None]
    return {
        "cell": group[0].cell,
        "mode": group[0].mode,
        "geometric_mean": geometric_mean(ratios),
        "least": min(ratios, default=None),
        "against": {
            name: {
                "geometric_mean": geometric_mean(row.ratio(name) for row in group),
                "least": min(r for row in group if (r := row.ratio(name)) is not None),
            }
            for name in _peers(group)
        },
        "wrong": sum(row.wrong is not None for row in group),
    }


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    versions: dict[str, str | None] = {}
    for package in ("torch", "onnxruntime", "jax"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
    }


def processor() -> str:
    """The name of the CPU, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
