"""`elman sample`: what a trained model writes."""

import json
import sys
from pathlib import Path
from typing import Any

import typer

from elman.errors import OptionError


def sample(
    run: Path = typer.Argument(help="A run folder, as runs/lm."),
    count: int = typer.Option(None, help="Sequences to write. [dim]default: 10; of music 1[/]"),
    label: str = typer.Option(None, help="What to write for, after train ... --conditional."),
    prompt: str = typer.Option(
        None,
        help="What the text begins with; of music or pictures a file. [dim]default: a line end, "
        "or how the text began[/]",
    ),
    prompt_length: int = typer.Option(
        None, help="Frames, or rows of pixels, of that file. [dim]default: all; half the rows[/]"
    ),
    length: int = typer.Option(
        None, help="Tokens, or steps, to write. [dim]default: 500; as in training[/]"
    ),
    temperature: float = typer.Option(
        None,
        help="0: always the likeliest; 1: as learnt. [dim]default: 0.8 of a language model, 1[/]",
    ),
    top_k: int = typer.Option(None, help="Draw only from the k likeliest."),
    top_p: float = typer.Option(None, help="Draw only from the likeliest that sum to p."),
    seed: int = typer.Option(None, help="The same seed writes the same."),
    probabilities: bool = typer.Option(
        False, "--probabilities", help="A token a line, a tab and its probability."
    ),
    out: Path = typer.Option(
        None, help="Draw series or pictures, as sheet.png; write music, as piece.mid."
    ),
    as_json: bool = typer.Option(False, "--json", help="A JSON object for each sequence."),
    cell: str = typer.Option(None, help="Your own cell, as path.py:ClassName."),
) -> None:
    """Let a trained model write: a text as it goes, or sequences one by one.

    [bold]elman sample runs/lm --prompt "The " --temperature 0.7 --seed 1[/]
    [bold]elman sample runs/generate --count 5[/]
    [bold]elman sample runs/music --prompt begun.mid --out piece.mid[/]
    """
    from elman.tasks import load
    from elman.tasks.lm.predictor import TextGenerator

    chosen = {
        "count": count,
        "label": label,
        "prompt": prompt,
        "prompt_length": prompt_length,
        "length": length,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    loaded = load(run, cell)
    language = isinstance(loaded, TextGenerator)
    shown = {"probabilities": probabilities, "out": out is not None, "json": as_json}
    odd = [name for name in (("out",) if language else ("probabilities",)) if shown[name]]
    _require_taken(loaded, given, odd)
    if language and as_json:
        _whole(loaded, given)
    elif language:
        _stream(loaded, given, probabilities)
    else:
        _each(loaded, given, out, as_json)


def _require_taken(loaded: Any, given: dict[str, Any], odd: list[str]) -> None:
    """Raise OptionError for what this task's `generate` does not take, and for ``odd``."""
    from elman.tasks.base.capabilities import Generates, keywords_of, require

    takes = keywords_of(require(loaded, Generates).generate)
    left = [name for name in given if name not in takes] + odd
    if left:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in left)
        raise OptionError(
            f"{loaded.run.folder}: a run of '{loaded.run.config['task']}' takes no {names}; it "
            f"takes {', '.join('--' + name.replace('_', '-') for name in takes)}"
        )


def _whole(loaded: Any, given: dict[str, Any]) -> None:
    """A text as a JSON object, with its tokens and how likely each was."""
    how = {"prompt": loaded.prompt, "temperature": 0.8, **given}
    print(json.dumps(loaded.scored(**how), ensure_ascii=False))


def _stream(loaded: Any, given: dict[str, Any], probabilities: bool) -> None:
    """A text, piece by piece as it goes."""
    how = {"prompt": loaded.prompt, "temperature": 0.8, **given}
    if probabilities:
        for token, probability in loaded.write_scored(**how):
            print(f"{_escaped(token)}\t{probability:.6f}", flush=True)
        return
    for number, piece in enumerate(loaded.generate(**how)):
        if number == 0:
            sys.stdout.write(how["prompt"])
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _escaped(token: str) -> str:
    """A token in a line of its own: what would end the line or the column is spelt out."""
    for character, spelt in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        token = token.replace(character, spelt)
    return token


def _each(loaded: Any, given: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Sequences, each in a line, or all in a file."""
    written = loaded.generate(**given)
    if out is not None:
        loaded.save(written, out)
        return
    for found in written:
        line = json.dumps(loaded.record(found), ensure_ascii=False) if as_json else None
        print(line or loaded.line(found), flush=True)
