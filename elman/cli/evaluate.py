"""`elman eval`: how good a trained model is."""

import json
from inspect import signature
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

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
    dynamic: bool = typer.Option(
        False, "--dynamic", help="A language model: let it learn from the text as it reads on."
    ),
    dynamic_rate: float = typer.Option(
        None, help="With --dynamic: how fast. [dim]default: 0.0003[/]"
    ),
    dynamic_decay: float = typer.Option(
        None, help="With --dynamic: how fast it goes back. [dim]default: 0.003[/]"
    ),
    dynamic_segment: int = typer.Option(
        None, help="With --dynamic: tokens it predicts before it learns. [dim]default: 20[/]"
    ),
    cell: str = typer.Option(None, help="Your own cell, as path.py:ClassName."),
) -> None:
    """Measure a model on files that it has not seen, beside the trivial answer.

    [bold]elman eval runs/lm held-out.txt[/]
    [bold]elman eval runs/lm held-out.txt --dynamic[/]         learning as it reads
    [bold]elman eval runs/classify new-reviews.csv --json[/]
    """
    from elman.tasks import load
    from elman.train.progress import reported

    said: dict[str, Any] = {
        "rate": dynamic_rate,
        "decay": dynamic_decay,
        "segment": dynamic_segment,
    }
    learning = {name: value for name, value in said.items() if value is not None}
    if learning and not dynamic:
        raise OptionError(f"--dynamic-{next(iter(learning))} is for --dynamic; add it")
    loaded = load(run, cell)
    how: dict[str, Any] = {"skip_unknown_labels": True} if skip_unknown_labels else {}
    if dynamic:
        from elman.models.dynamic import Dynamic

        how["dynamic"] = Dynamic(**learning)
    takes = signature(loaded.evaluate).parameters
    if "skip_unknown_labels" in set(how) - set(takes):
        raise OptionError(f"{run}: has no labels that could be unknown")
    if "dynamic" in set(how) - set(takes):
        raise OptionError(f"{run}: is no language model, and --dynamic is for one")
    with reported(Console(stderr=True)) as report:
        scores = loaded.evaluate(files or [], report, **how)
    if as_json:
        print(json.dumps(scores))
        return
    baseline = scores.pop("baseline", {})
    skipped = scores.pop("skipped", None)
    for name, value in scores.items():
        beside = f"{_number(baseline[name]):>14}" if name in baseline else ""
        print(f"{name:<22}{_number(value):>14}{beside}")
    if baseline:
        print(f"\nbeside it: {baseline['name']}")
    if skipped is not None:
        print(f"left out: {skipped}")


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
