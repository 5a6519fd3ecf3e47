"""`elman predict`: what a trained model answers."""

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import typer

from elman.cli.options import LENGTH_BONUS, LM, LM_WEIGHT, with_options
from elman.data.core.records import SkipLog
from elman.errors import DataError, OptionError
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
    prefix: str = typer.Option(None, help="What each text that is written begins with."),
    lm: str = typer.Option(None, help=LM),
    lm_weight: float = typer.Option(None, help=LM_WEIGHT),
    length_bonus: float = typer.Option(None, help=LENGTH_BONUS),
    cell: str = typer.Option(None, help="Your own cell, as path.py:ClassName."),
) -> None:
    """Answer inputs: from the command line, from files, or line by line from standard input.

    [bold]elman predict runs/classify "what a lovely film"[/]
    [bold]elman predict runs/translate --file new.de --beams 5 --json[/]
    [bold]tail -f log | elman predict runs/tag[/]
    [bold]sensor | elman predict runs/classify --stream[/]   a step a line; an empty one begins anew
    [bold]arecord -t raw -f S16_LE -r 8000 | elman predict runs/transcribe --stream[/]

    The options of decoding are for models that write. Those that are not given are as in the scores
    at the end of training; for a translator its own --beams, --length-penalty 1, --max-length 200.
    """
    from elman.tasks import load
    from elman.tasks.base.capabilities import Decodes, Predicts, keywords_of, require

    loaded = load(run, cell)
    searched = {"lm": lm, "lm_weight": lm_weight, "length_bonus": length_bonus}
    given = {name: value for name, value in searched.items() if value is not None}
    if stream:
        if texts or file or attention or options or given or prefix or seed is not None:
            raise OptionError(
                "--stream reads standard input, and of the options takes --json alone"
            )
        _stream(loaded, as_json)
        return
    takes = keywords_of(require(loaded, Predicts).predict)
    how: dict[str, Any] = {} if seed is None else {"seed": seed}
    if prefix is not None:
        if "prefix" not in takes:
            raise OptionError(f"{run}: --prefix is for translators and captioners")
        how["prefix"] = prefix
    if (options or how) and not isinstance(loaded, Decodes):
        raise OptionError(
            f"{run}: a run of '{loaded.run.config['task']}' writes nothing step by step, so it "
            "takes neither --seed nor any of the options of decoding"
        )
    if "seed" in how and "seed" not in takes:
        raise OptionError(f"{run}: --seed is for models that draw, and this one draws nothing")
    if given and "lm" not in takes:
        raise OptionError(f"{run}: --{next(iter(given)).replace('_', '-')} is for transcribers")
    how |= given
    if options:
        how["decoding"] = _decoding(loaded, options)
    left_out = SkipLog()
    answers = _answers(loaded, texts or [], file, how)
    for number, answer in enumerate(answers, 1):
        if attention is not None and "left_out" not in answer.record:
            _draw(answer, attention, number)
        _print(answer, as_json)
        if "left_out" in answer.record:
            left_out.add(f"no answer, as {answer.record['left_out']}", f"input {number}")
    if left_out.total:
        print(f"note: {left_out}", file=sys.stderr)


def _stream(loaded: Any, as_json: bool) -> None:
    from elman.tasks.base.capabilities import Streams, require
    from elman.tasks.base.streaming import StepTimes, answers

    times = StepTimes()
    streaming = require(loaded, Streams).stream()
    try:
        for answer in answers(streaming, sys.stdin.buffer, times):
            _print(answer, as_json, streaming.between)
    finally:
        print(f"note: {times}", file=sys.stderr)


def _print(answer: Any, as_json: bool, between: str = "\n") -> None:
    if as_json:
        print(json.dumps(answer.record, ensure_ascii=False), flush=True)
    else:
        print(answer.text, end=between, flush=True)


def _decoding(loaded: Any, said: dict[str, Any]) -> Decoding:
    """How the model is read out: as it was scored, but for what the user said."""
    drawn = {"beams": 1} if said.get("temperature", 0) > 0 else {}
    return replace(loaded.decoding, **{**drawn, **said})


def _answers(
    loaded: Any, texts: list[str], files: list[Path], how: dict[str, Any]
) -> Iterator[Any]:
    """The answers to what was given, else to standard input, as its lines come."""
    if texts or files:
        given = ((f"input {number}", text) for number, text in enumerate(texts, 1))
        inputs = chain(_parsed(loaded, given), *(loaded.read_inputs(file) for file in files))
        return loaded.predict(inputs, **how)
    if sys.stdin.isatty():
        print("an input a line; Ctrl-D ends", file=sys.stderr)
    lines = _lines(sys.stdin.buffer)
    if "decoding" in how and how["decoding"].draws:
        # Draws follow one another, however lines are grouped.
        return loaded.predict(_parsed(loaded, chain.from_iterable(lines)), batch_size=1, **how)
    return chain.from_iterable(
        loaded.predict(inputs, **how) for several in lines for inputs in _whole(loaded, several)
    )


def _parsed(loaded: Any, given: Iterable[tuple[str, str]]) -> Iterator[Any]:
    """The inputs that texts stand for; an error says which text it is about."""
    for where, text in given:
        try:
            yield loaded.parse(text)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error


def _whole(loaded: Any, given: Iterable[tuple[str, str]]) -> Iterator[list[Any]]:
    """The inputs as a list; where one is wrong, those before it, and then the error."""
    inputs: list[Any] = []
    try:
        inputs.extend(_parsed(loaded, given))
    except DataError:
        yield inputs
        raise
    yield inputs


def _lines(source: BinaryIO) -> Iterator[Iterator[tuple[str, str]]]:
    """The lines of each read; line ends may be mixed."""
    count = itertools.count(1)
    rest = b""
    while data := source.read1(1 << 16):  # type: ignore[attr-defined]
        *whole, rest = (rest + data).split(b"\n")
        yield _decoded(whole, count)
    if rest:
        yield _decoded([rest], count)


def _decoded(lines: list[bytes], count: Iterator[int]) -> Iterator[tuple[str, str]]:
    """Where each line stands, and its text."""
    for raw in lines:
        for line in raw.removesuffix(b"\r").split(b"\r"):
            where = f"standard input, line {next(count)}"
            try:
                yield where, line.decode("utf-8").removeprefix("\ufeff")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{where}: is not UTF-8 ({error.reason}); convert it, as with iconv, or give a "
                    "file with --file, which is read as in training"
                ) from error


def _draw(answer: Any, path: Path, number: int) -> None:
    from elman.tasks.base.attention import draw_attention

    if answer.attention is None:
        raise OptionError(f"{path}: this model has no attention to draw")
    draw_attention(path if number == 1 else path.with_stem(f"{path.stem}-{number}"), answer)
