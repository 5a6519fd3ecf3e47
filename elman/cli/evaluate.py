"""`elman eval`: how well a trained model predicts a text."""

import json
from pathlib import Path

import typer
from rich.console import Console


def evaluate(
    run: Path = typer.Argument(help="A run folder, as runs/lm."),
    file: Path = typer.Argument(help="A text."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    cell: str = typer.Option(None, help="Your own cell, as path.py:ClassName."),
) -> None:
    """Measure a model on a whole file, with the state carried from its first token to its last.

    [bold]elman eval runs/lm held-out.txt[/]
    """
    from elman.tasks import load
    from elman.train.progress import reported

    loaded = load(run, cell)
    with reported(Console(stderr=True)) as report:
        scores = loaded.evaluate(file, report)
    if as_json:
        print(json.dumps(scores))
        return
    for name, value in scores.items():
        print(
            f"{name:<22}{value:>14,.4f}" if isinstance(value, float) else f"{name:<22}{value:>14,}"
        )
