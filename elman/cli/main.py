"""`elman`: every command, and how errors leave it."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from elman import __version__
from elman.cli import bench, cells, doctor, evaluate, explain, predict, sample, train
from elman.errors import ElmanError, OptionError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Recurrent networks, from the equation to the trained model.\n\n"
    "Begin with [bold]elman train lm --minutes 3[/], then [bold]elman sample runs/lm[/].",
)
app.add_typer(train.app, name="train")
app.command("sample")(sample.sample)
app.command("eval")(evaluate.evaluate)
app.command("cells")(cells.cells)
app.command("predict")(predict.predict)
app.command("explain")(explain.explain)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"elman {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main() -> None:
    """The entry point. Exit codes: 0 well, 1 error, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except ElmanError as error:
        console = Console(stderr=True, soft_wrap=True, emoji=False)
        console.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe has gone; nothing is lost and nobody is left to tell.
        sys.stderr.close()
        sys.exit(1)
