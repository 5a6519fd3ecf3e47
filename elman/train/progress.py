"""A progress bar for what takes longer than a moment."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TaskID

from elman.data.text.corpus import ProgressCallback


@contextmanager
def reported(console: Console) -> Iterator[ProgressCallback]:
    """A function that shows the progress of each piece of work: report(what, done, total)."""
    tasks: dict[str, TaskID] = {}
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield report
