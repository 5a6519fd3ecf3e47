"""`elman train`: a model from data."""

from pathlib import Path

import typer
from rich.console import Console

from elman.cli.options import with_options
from elman.errors import OptionError
from elman.train.language_options import LanguageModelOptions
from elman.train.run import Run

app = typer.Typer(rich_markup_mode="rich")


@app.callback(invoke_without_command=True)
def _train(
    context: typer.Context,
    resume: Path = typer.Option(None, help="Go on with this run, to the same numbers."),
    epochs: int = typer.Option(None, help="With --resume: train to so many epochs."),
    minutes: float = typer.Option(None, help="With --resume: train to so many minutes in all."),
    steps: int = typer.Option(None, help="With --resume: train to so many steps."),
    patience: int = typer.Option(None, help="With --resume: another --patience."),
    cell: str = typer.Option(None, help="With --resume: your own cell, as path.py:ClassName."),
) -> None:
    """Train a model, or go on with a training that was interrupted.

    [bold]elman train lm my.txt --minutes 10[/]   a language model of a text
    [bold]elman train --resume runs/lm[/]         after Ctrl-C, a crash or kill -9
    """
    length = {"epochs": epochs, "minutes": minutes, "steps": steps}
    if context.invoked_subcommand is not None:
        if any(value is not None for value in (resume, cell, patience, *length.values())):
            name = context.invoked_subcommand
            raise OptionError(
                f"options of a new training come after '{name}': elman train {name} ..."
            )
        return
    if resume is None:
        print(context.get_help())
        raise typer.Exit(2)
    from elman.train import language_model

    console = Console(soft_wrap=True)
    _finish(language_model.resume(resume, console, cell, patience, **length), console)


@app.command("lm")
@with_options(LanguageModelOptions)
def _language_model(
    options: LanguageModelOptions,
    files: list[str] = typer.Argument(
        None, help="UTF-8 text, one file or many. [dim]default: Python's own documentation[/]"
    ),
    out: Path = typer.Option(Path("runs/lm"), help="The run folder to make."),
    force: bool = typer.Option(False, "--force", help="Replace a run that is there already."),
) -> None:
    """Train a language model on text, and write with it.

    [bold]elman train lm[/]                                        the embedded text, 10 epochs
    [bold]elman train lm a.txt b.txt --minutes 10[/]               your own
    [bold]elman train lm --cell gru --cell-option update=replace[/]
    [bold]elman train lm --cell mine.py:MyCell[/]                  a cell of your own
    """
    from elman.train import language_model

    if "" in (files or []):
        raise OptionError("a file name is empty")
    console = Console(soft_wrap=True)
    _finish(language_model.train(files or [], options, out, force, console), console)


def _finish(run: Run, console: Console) -> None:
    from elman.train.custom_cell import cell_argument
    from elman.train.fit import process_rank

    if process_rank() > 0:
        return
    sample = run.folder / "sample.txt"
    console.rule(f"{sample}, at temperature 0.7")
    console.print(sample.read_text(encoding="utf-8"), markup=False, highlight=False)
    console.rule()
    console.print(f"curves: {run.folder / 'curves.png'}", highlight=False, markup=False)
    own = cell_argument(run.config["options"]["cell"])
    more = f'more:   elman sample {run.folder} --prompt "..."{own}'
    console.print(more, highlight=False, markup=False)
