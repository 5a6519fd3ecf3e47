"""`elman eval`: how good a trained model is."""

import json
from inspect import signature
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from elman.cli.options import LENGTH_BONUS, LM, LM_WEIGHT
from elman.errors import OptionError


def evaluate(
    run: Path = typer.Argument(help="A run folder, as runs/lm."),
    files: list[Path] = typer.Argument(
        None, help="Files like those trained on. [dim]default: the run's own test part[/]"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    skip_unknown_labels: bool = typer.Option(
        False,
        "--skip-unknown-labels",
        help="Leave out, and count, what has a label or tag that training did not know.",
    ),
    beams: int = typer.Option(None, help="For a transcriber: texts followed side by side."),
    lm: str = typer.Option(None, help=LM),
    lm_weight: float = typer.Option(None, help=LM_WEIGHT),
    length_bonus: float = typer.Option(None, help=LENGTH_BONUS),
    cell: str = typer.Option(None, help="Your own cell, as path.py:ClassName."),
) -> None:
    """Measure a model on files that it has not seen, beside the trivial answer.

    [bold]elman eval runs/lm held-out.txt[/]
    [bold]elman eval runs/classify new-reviews.csv --json[/]
    """
    from elman.tasks import load
    from elman.tasks.scored import baselines_in
    from elman.train.progress import reported

    loaded = load(run, cell)
    with reported(Console(stderr=True)) as report:
        how = {"skip_unknown_labels": True} if skip_unknown_labels else {}
        if not set(how) <= set(signature(loaded.evaluate).parameters):
            raise OptionError(f"{run}: has no labels that could be unknown")
        search = {"beams": beams, "lm": lm, "lm_weight": lm_weight, "length_bonus": length_bonus}
        given = {name: value for name, value in search.items() if value is not None}
        if given and "lm" not in signature(loaded.evaluate).parameters:
            raise OptionError(f"{run}: --{next(iter(given)).replace('_', '-')} is for transcribers")
        scores = loaded.evaluate(files or [], report, **how, **given)
    if as_json:
        print(json.dumps(scores))
        return
    beside = baselines_in(scores)
    scores.pop("baseline", None)
    skipped = scores.pop("skipped", None)
    for name, value in scores.items():
        theirs = "".join(f"{_number(b[name]) if name in b else '':>14}" for b in beside)
        print(f"{name:<22}{_number(value):>14}{theirs}".rstrip())
    if beside:
        print(f"\nbeside it: {', '.join(baseline['name'] for baseline in beside)}")
    if skipped is not None:
        print(f"left out: {skipped}")


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
