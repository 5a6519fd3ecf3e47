"""`elman train`: a model from data."""

from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from elman.cli.options import with_options
from elman.errors import OptionError
from elman.tasks import TASKS, task_of
from elman.train.run import open_run
from elman.train.task import Task

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

    [bold]elman train lm my.txt --minutes 10[/]           a language model of a text
    [bold]elman train classify reviews.csv[/]             a text and its label in each row
    [bold]elman train tag train.conll --crf[/]            a word and its tag in each line
    [bold]elman train translate train.de train.en[/]      two files, line by line
    [bold]elman train forecast load.csv --horizon 24[/]   a time, and a column for each series
    [bold]elman train --resume runs/lm --epochs 20[/]     after Ctrl-C or a crash, or for longer

    Each trains on data of its own where no file is given. Options: [bold]elman train tag --help[/]
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
    from elman.train import training

    run = open_run(resume)
    console = Console(soft_wrap=True, emoji=False)
    training.resume(task_of(run), run, console, cell, patience, **length)


def _add_command(kind: type[Task]) -> None:
    @with_options(kind.options_type)
    def command(
        options: Any,
        files: list[str] = typer.Argument(None, help=kind.files_help),
        out: Path = typer.Option(Path("runs") / kind.name, help="The run folder to make."),
        force: bool = typer.Option(False, "--force", help="Replace a run that is there already."),
    ) -> None:
        from elman.train import training

        if "" in (files or []):
            raise OptionError("a file name is empty")
        training.train(kind, files or [], options, out, force, Console(soft_wrap=True, emoji=False))

    app.command(kind.name, help=kind.help)(command)


for _kind in TASKS.values():
    _add_command(_kind)
