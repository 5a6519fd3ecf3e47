"""`elman doctor`: whether elman works on this machine."""

import re
from math import inf
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from elman.errors import OptionError

if TYPE_CHECKING:
    from elman.testing.fuzz import Report

#: Of how many failures a script is made, and how many seconds each may take.
SCRIPTS, SECONDS = 3, 60


def doctor(
    minutes: float = typer.Option(
        0, help="Run random programs against the literal loop for so many minutes."
    ),
    programs: int = typer.Option(0, help="Run so many random programs."),
    seed: int = typer.Option(0, help="Which programs: the same seed gives the same ones."),
    first: int = typer.Option(0, help="The number of the first program."),
) -> None:
    """Check this installation, and every backend on random programs.

    [bold]elman doctor[/]                       versions, processor, threads, cache, one kernel
    [bold]elman doctor --minutes 10[/]          and random cells, layers and programs
    [bold]elman doctor --programs 1 --first 17[/]  one program again

    A program calls a random layer in many ways and changes it in between; results and gradients of
    first and second order must be those of the literal loop. What differs is printed as a Python
    script that shows it again. The exit code is 1 where anything is wrong.
    """
    from elman.testing.installation import installation

    if min(programs, seed, first) < 0 or not 0 <= minutes < inf:
        raise OptionError(
            "--minutes, --programs, --seed and --first must be numbers that are not negative"
        )
    console = Console(soft_wrap=True, emoji=False)
    findings = installation()
    for finding in findings:
        mark = "[bold red]wrong[/]" if finding.wrong else "[green]ok[/]   "
        console.print(f"{mark} {finding.name:11} {escape(finding.text)}", highlight=False)
    wrong = any(finding.wrong for finding in findings)
    if minutes or programs:
        wrong |= bool(_fuzzed(console, minutes, programs, seed, first).failures)
    if wrong:
        raise typer.Exit(1)


def _fuzzed(console: Console, minutes: float, programs: int, seed: int, first: int) -> "Report":
    from elman.testing.fuzz import fuzz

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    quiet = not console.is_terminal
    text = TextColumn("{task.fields[found]}")
    with Progress(*columns, text, console=console, disable=quiet, transient=True) as bar:
        task = bar.add_task("random programs", total=programs or None, found="")

        def show(report: "Report") -> None:
            found = f"{report.programs:,} programs, {len(report.failures)} differ"
            bar.update(task, completed=report.programs, found=found)

        report = fuzz(seed, programs or 1 << 40, minutes or None, first, progress=show)
    console.print(str(report), markup=False, highlight=False)
    kinds = {re.sub(r"[\d.]+", "#", failure.text)[:60]: failure for failure in report.failures}
    for failure in list(kinds.values())[:SCRIPTS]:
        console.print(f"\n{_script(failure.seed, failure.number)}", markup=False, highlight=False)
    return report


def _script(seed: int, number: int) -> str:
    """Made in a process of its own: it may crash."""
    import subprocess
    import sys

    made = f"script(program({seed}, {number}), {SECONDS})"
    code = f"from elman.testing.fuzz import program, script; print({made})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    return f"from elman.testing.fuzz import check, program\n\ncheck(program({seed}, {number}))"
