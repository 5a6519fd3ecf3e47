"""`elman eval`: how good a trained model is."""

import json
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
    beams: int = typer.Option(None, help="For a transcriber: texts followed side by side."),
    lm: str = typer.Option(None, help=LM),
    lm_weight: float = typer.Option(None, help=LM_WEIGHT),
    length_bonus: float = typer.Option(None, help=LENGTH_BONUS),
    cell: str = typer.Option(None, help="Your own cell, as path.py:ClassName."),
) -> None:
    """Measure a model on files that it has not seen, beside the trivial answer.

    [bold]elman eval runs/lm held-out.txt[/]
    [bold]elman eval runs/lm held-out.txt --dynamic[/]         learning as it reads
    [bold]elman eval runs/classify new-reviews.csv --json[/]
    """
    from elman.tasks import load
    from elman.tasks.base.capabilities import Evaluates, keywords_of, require
    from elman.tasks.base.scoring import baselines_in
    from elman.train.progress import reported

    how = _said(
        skip_unknown_labels=skip_unknown_labels or None,
        beams=beams,
        lm=lm,
        lm_weight=lm_weight,
        length_bonus=length_bonus,
    )
    learning = _said(rate=dynamic_rate, decay=dynamic_decay, segment=dynamic_segment)
    if learning and not dynamic:
        raise OptionError(f"--dynamic-{next(iter(learning))} is for --dynamic; add it")
    loaded = load(run, cell)
    if dynamic:
        from elman.models.text.dynamic import Dynamic

        how["dynamic"] = Dynamic(**learning)
    _require_taken(run, how, set(keywords_of(require(loaded, Evaluates).evaluate)))
    with reported(Console(stderr=True)) as report:
        scores = loaded.evaluate(files or [], report, **how)
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


def _said(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _require_taken(run: Path, how: dict[str, Any], takes: set[str]) -> None:
    """Raise OptionError for what this task's `evaluate` does not take."""
    for name in how:
        if name in takes:
            continue
        if name == "skip_unknown_labels":
            raise OptionError(f"{run}: has no labels that could be unknown")
        whom = "a language model" if name == "dynamic" else "transcribers"
        raise OptionError(f"{run}: --{name.replace('_', '-')} is for {whom}")


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
