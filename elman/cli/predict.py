"""`elman predict`: what a trained model answers."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import Any

import typer

from elman.cli.options import with_options
from elman.data.source import Skipped
from elman.errors import OptionError
from elman.models.decoding import Decoding


@with_options(Decoding, said_only=True)
def predict(
    options: dict[str, Any],
    run: Path = typer.Argument(help="A run folder, as runs/classify."),
    texts: list[str] = typer.Argument(
        None, help="Inputs. [dim]default: a line each from standard input[/]"
    ),
    file: list[Path] = typer.Option(
        [], help="Inputs from a file like those trained on, which needs no answers in it."
    ),
    as_json: bool = typer.Option(False, "--json", help="A JSON object for each input."),
    stream: bool = typer.Option(
        False, "--stream", help="Answer each step of standard input as it comes."
    ),
    attention: Path = typer.Option(
        None, help="Draw input against output, as out.png; of more inputs out-2.png ..."
    ),
    seed: int = typer.Option(None, help="The same seed draws the same."),
    cell: str = typer.Option(None, help="Your own cell, as path.py:ClassName."),
) -> None:
    """Answer inputs: from the command line, from files, or line by line from standard input.

    [bold]elman predict runs/classify "what a lovely film"[/]
    [bold]elman predict runs/translate --file new.de --beams 5 --json[/]
    [bold]tail -f log | elman predict runs/tag[/]
    [bold]sensor | elman predict runs/classify --stream[/]   a step a line; an empty one begins anew

    The options of decoding are for models that write. Those that are not given are as in the scores
    at the end of training; for a translator its own --beams, --length-penalty 1, --max-length 200.
    """
    from elman.tasks import load

    loaded = load(run, cell)
    if stream:
        if texts or file or attention or options or seed is not None:
            raise OptionError(
                "--stream reads standard input, and of the options takes --json alone"
            )
        _stream(loaded, as_json)
        return
    takes = signature(loaded.predict).parameters
    if "inputs" not in takes:
        loaded.predict()  # says what this run is for
    how: dict[str, Any] = {} if seed is None else {"seed": seed}
    if (options or how) and "decoding" not in takes:
        raise OptionError(
            f"{run}: a run of '{loaded.run.config['task']}' writes nothing step by step, so it "
            "takes neither --seed nor any of the options of decoding"
        )
    if options:
        how["decoding"] = _decoding(loaded, options)
    inputs, batch_size = _inputs(loaded, texts or [], file)
    left_out = Skipped()
    for number, answer in enumerate(loaded.predict(inputs, batch_size=batch_size, **how), 1):
        if attention is not None and "left_out" not in answer.record:
            _draw(answer, attention, number)
        _print(answer, as_json)
        if "left_out" in answer.record:
            left_out.add(f"no answer, as {answer.record['left_out']}", f"input {number}")
    if left_out.total:
        print(f"note: {left_out}", file=sys.stderr)


def _stream(loaded: Any, as_json: bool) -> None:
    from elman.tasks.streaming import answers, timing

    seconds: list[float] = []
    try:
        for answer in answers(loaded.stream(), sys.stdin.buffer, seconds):
            _print(answer, as_json)
    finally:
        print(f"note: {timing(seconds)}", file=sys.stderr)


def _print(answer: Any, as_json: bool) -> None:
    print(json.dumps(answer.record, ensure_ascii=False) if as_json else answer.text, flush=True)


def _decoding(loaded: Any, said: dict[str, Any]) -> Decoding:
    """How the model is read out: as it was scored, but for what the user said."""
    draws = said.get("temperature", 0) > 0
    return replace(loaded.decoding, **({"beams": 1} if draws else {}), **said)


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
    draw_attention(path if number == 1 else path.with_stem(f"{path.stem}-{number}"), answer)
