"""`elman sample`: what a trained model writes."""

import sys
from pathlib import Path

import typer


def sample(
    run: Path = typer.Argument(help="A run folder, as runs/lm."),
    prompt: str = typer.Option(
        None, help="What the text begins with. [dim]default: a line end, or how the text began[/]"
    ),
    length: int = typer.Option(500, help="Tokens to write."),
    temperature: float = typer.Option(0.8, help="0: always the likeliest; 1: as learnt."),
    top_k: int = typer.Option(None, help="Draw only from the k likeliest."),
    top_p: float = typer.Option(None, help="Draw only from the likeliest that sum to p."),
    seed: int = typer.Option(None, help="The same seed writes the same text."),
    cell: str = typer.Option(None, help="Your own cell, as path.py:ClassName."),
) -> None:
    """Let a trained model write, character by character as it goes.

    [bold]elman sample runs/lm --prompt "The " --temperature 0.7 --seed 1[/]
    """
    from elman.tasks import load

    loaded = load(run, cell)
    prompt = loaded.prompt if prompt is None else prompt
    pieces = loaded.write(
        prompt, length, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    for number, piece in enumerate(pieces):
        if number == 0:
            sys.stdout.write(prompt)
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
