"""`elman eval`: how good a trained model is."""

import json
from pathlib import Path
from typing import Any

import typer
from rich.console import Console


def evaluate(
    run: Path = typer.Argument(help="A run folder, as runs/lm."),
    files: list[Path] = typer.Argument(
        None, help="Files like those trained on. [dim]default: the run's own test part[/]"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    cell: str = typer.Option(None, help="Your own cell, as path.py:ClassName."),
) -> None:
    """Measure a model on files that it has not seen, beside the trivial answer.

    [bold]elman eval runs/lm held-out.txt[/]
    [bold]elman eval runs/classify new-reviews.csv --json[/]
    """
    from elman.tasks import load
    from elman.train.progress import reported

    loaded = load(run, cell)
    with reported(Console(stderr=True)) as report:
        scores = loaded.evaluate(files or [], report)
    if as_json:
        print(json.dumps(scores))
        return
    baseline = scores.pop("baseline", {})
    for name, value in scores.items():
        beside = baseline.get(name)
        print(f"{name:<22}{_number(value):>14}" + (f"{_number(beside):>14}" if beside else ""))
    if baseline:
        print(f"\nbeside it: {baseline['name']}")


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
