"""`elman predict`: what a trained model answers."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import Any

import typer

from elman.cli.options import with_options
from elman.errors import OptionError
from elman.models.decoding import Decoding


@with_options(Decoding)
def predict(
    options: Decoding,
    run: Path = typer.Argument(help="A run folder, as runs/classify."),
    texts: list[str] = typer.Argument(
        None, help="Inputs. [dim]default: a line each from standard input[/]"
    ),
    file: list[Path] = typer.Option([], help="Inputs from a file like those trained on."),
    as_json: bool = typer.Option(False, "--json", help="A JSON object a line."),
    attention: Path = typer.Option(None, help="Draw source against output, as out.png."),
    seed: int = typer.Option(None, help="The same seed draws the same."),
    cell: str = typer.Option(None, help="Your own cell, as path.py:ClassName."),
) -> None:
    """Answer inputs: from the command line, from files, or line by line from standard input.

    [bold]elman predict runs/classify "what a lovely film"[/]
    [bold]elman predict runs/translate --file new.de --beams 5 --json[/]
    [bold]tail -f log | elman predict runs/tag[/]
    """
    from elman.tasks import load

    loaded = load(run, cell)
    how = _said(options, seed=seed)
    unknown = set(how) - set(signature(loaded.predict).parameters)
    if unknown:
        raise OptionError(
            f"{run}: a run of '{loaded.run.config['task']}' writes nothing step by step, so it "
            "takes none of the options of decoding"
        )
    inputs, batch_size = _inputs(loaded, texts or [], file)
    for number, answer in enumerate(loaded.predict(inputs, batch_size=batch_size, **how)):
        print(json.dumps(answer.record, ensure_ascii=False) if as_json else answer.text, flush=True)
        if attention is not None:
            _draw(answer, attention, number)


def _said(options: Decoding, seed: int | None) -> dict[str, Any]:
    """What differs from the defaults: all tasks need not know what was not asked for."""
    differs = any(getattr(options, f.name) != f.default for f in fields(options))
    how: dict[str, Any] = {"decoding": options} if differs else {}
    return how if seed is None else {**how, "seed": seed}


def _inputs(loaded: Any, texts: list[str], files: list[Path]) -> tuple[Iterable[Any], int]:
    """The inputs, and how many are answered at once: one where a person or a pipe waits."""
    if texts or files:
        parsed = (loaded.parse(text) for text in texts)
        return chain(parsed, *(loaded.inputs(file) for file in files)), 64
    if sys.stdin.isatty():
        print("an input a line; Ctrl-D ends", file=sys.stderr)
    return (loaded.parse(line) for line in _lines()), 1


def _lines() -> Iterator[str]:
    for line in sys.stdin:
        yield line.rstrip("\r\n")


def _draw(answer: Any, path: Path, number: int) -> None:
    from elman.tasks.pictures import draw_attention

    if answer.attention is None:
        raise OptionError(f"{path}: this model has no attention to draw")
    draw_attention(path if number == 0 else path.with_stem(f"{path.stem}-{number + 1}"), answer)
