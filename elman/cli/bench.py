"""`elman bench`: how fast every cell runs on this machine, beside what else is installed."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from elman.errors import OptionError, unknown

if TYPE_CHECKING:
    from elman.benchmarks.finding import Finding, Settings
    from elman.benchmarks.run import Row

MODES = ("inference", "training", "both")


def bench(
    cell: list[str] = typer.Option(
        None,
        help="A cell of `elman cells`, reset-before-gru, custom (a cell that elman does not "
        "know), classic (LSTM, GRU, Elman), others (the seven that torch.nn lacks), or your "
        "own as path.py:ClassName; may be repeated. [dim]default: classic[/]",
    ),
    mode: str = typer.Option("both", help="inference, training (forward + backward) or both."),
    grid: list[str] = typer.Option(
        None,
        help="full (ten points), quick (three), or one point B,H,T as 16,256,100; may be "
        "repeated. [dim]default: full[/]",
    ),
    threads: int = typer.Option(
        None, help="CPU threads; JAX always takes its own. [dim]default: torch's choice[/]"
    ),
    budget: float = typer.Option(2.0, help="Seconds of repeats at each point and mode."),
    compile: float = typer.Option(
        0.0, help="Let torch.compile the loop for at most so many seconds a point, as a peer."
    ),
    extra: list[str] = typer.Option(
        None,
        help="Instead of the grid: streaming (one step), compile (time of the first call), "
        "bidirectional (beside torch.nn, and beside one direction after the other), options (cost "
        "of lengths, reset, zoneout, dropout), custom (your own cell beside the built-in), "
        "peak (share of the fastest matrix product), accuracy, or all; may be repeated.",
    ),
    out: str = typer.Option(
        None, "--json", help="Write everything to this file as JSON; - for standard output alone."
    ),
) -> None:
    """Measure the cells beside torch.nn, ONNX Runtime, JAX and the literal torch loop.

    [bold]elman bench[/]                                      LSTM, GRU, Elman; ten sizes
    [bold]elman bench --cell lstm --grid quick[/]             a first look
    [bold]elman bench --cell mine.py:MyCell --grid 16,256,100[/]   a cell of your own
    [bold]elman bench --extra streaming --extra accuracy[/]   other questions

    Every result is compared with a float64 loop first: outputs and, in training, the gradients
    of the input and of all parameters. Where ours is off, WRONG stands instead of a time and the
    exit code is 1. Peers that are not installed are left out and named.

    All runs are in float32 on the CPU, with as many inputs as units. ratio = time of the fastest
    peer / time of elman.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if not budget > 0 or compile < 0 or (threads is not None and threads < 1):
        raise OptionError("--budget and --threads must be above 0, --compile 0 or above")
    if out not in (None, "-") and not Path(out).parent.is_dir():
        raise OptionError(f"--json {out}: there is no folder {Path(out).parent}")
    settings = _settings(cell or ["classic"], grid or [], threads, budget)
    rows: list[Row] = []
    found: list[Finding] = []
    try:
        with _progress() as progress:
            if extra:
                _extras(found, extra, settings, progress)
            else:
                _rows(rows, settings, mode, compile, progress)
    except KeyboardInterrupt:
        # Minutes of measurements are not thrown away.
        _show(rows, found, out)
        raise
    _show(rows, found, out)
    if any(row.wrong is not None for row in rows):
        raise typer.Exit(1)


def _settings(cells: list[str], grids: list[str], threads: int | None, budget: float) -> "Settings":
    import torch

    from elman.benchmarks.finding import Settings
    from elman.benchmarks.grid import points_of
    from elman.benchmarks.subjects import CLASSIC, OTHERS, subject_named

    groups = {"classic": CLASSIC, "others": OTHERS}
    names = [name for cell in cells for name in groups.get(cell.lower(), (cell,))]
    points = points_of(grids) if grids else None
    subjects = {subject.name: subject for subject in map(subject_named, names)}
    if threads is not None:
        torch.set_num_threads(threads)
    return Settings(tuple(subjects.values()), points, budget)


def _progress() -> Progress:
    # On standard error, so that standard output holds results alone.
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _rows(
    found: "list[Row]", settings: "Settings", mode: str, compile: float, progress: Progress
) -> None:
    from elman.benchmarks.grid import FULL
    from elman.benchmarks.run import MODES, rows

    points, modes = settings.points or FULL, MODES[mode]
    task = progress.add_task("", total=len(settings.subjects) * len(points) * len(modes))

    def report(text: str) -> None:
        progress.update(task, description=text)

    for row in rows(settings.subjects, points, modes, settings.budget, compile, report):
        found.append(row)
        progress.advance(task)


def _extras(
    found: "list[Finding]", names: list[str], settings: "Settings", progress: Progress
) -> None:
    from elman.benchmarks.extras import EXTRAS, extras_named

    chosen = extras_named(names)
    task = progress.add_task("", total=len(chosen))
    for name in chosen:
        progress.update(task, description=name)
        found.extend(EXTRAS[name](settings))
        progress.advance(task)


def _show(rows: "list[Row]", found: "list[Finding]", out: str | None) -> None:
    from elman.benchmarks.peers import missing
    from elman.benchmarks.table import as_json, explanation, finding_tables, machine, tables

    console = Console(soft_wrap=True)
    absent = missing()
    written = json.dumps(as_json(rows, absent, found), indent=1) if out else ""
    if out == "-":
        sys.stdout.write(written + "\n")
        return
    about: dict[str, Any] = machine()
    console.print(
        f"{about['processor']}, {about['instructions']}, {about['threads']} threads, float32",
        highlight=False,
        markup=False,
    )
    for table in [*tables(rows), *finding_tables(found)]:
        console.print(table)
    if rows:
        console.print(explanation(absent), highlight=False, markup=False)
    if out:
        from elman.data.core.files import write_text

        write_text(Path(out), written + "\n")
