"""A training of any task, from the files to the end, and on from where it was interrupted."""

import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from elman.cells import Cell
from elman.data.core.batch import Batches
from elman.data.core.files import RESTORE
from elman.data.core.reading import reading
from elman.errors import RunError
from elman.train.custom_cell import cell_argument, cell_class, is_built_in
from elman.train.distributed import first_does, process_rank, require_processes
from elman.train.machine import require_accelerator, use_threads, without_denormals
from elman.train.options import ModelOptions
from elman.train.progress import reported
from elman.train.run import Run, new_run, open_run
from elman.train.task import Task, options_of


@without_denormals()
def train(
    kind: type[Task], files: list[str], options: Any, out: Path, force: bool, console: Console
) -> Run:
    """Train from the beginning into a new run folder."""
    require_accelerator(options.accelerator, options.devices)
    require_processes(options)
    kind.check(options, files)

    def prepare() -> None:
        with new_run(out, force) as run:
            whole = [str(Path(file).resolve()) for file in files]
            run.save_config({"task": kind.name, "files": whole, "options": asdict(options)})
            _prepare(kind(run, options), console)

    first_does(prepare)
    return _go_on(_begun(kind(_seen(out), options), cell_class(options.cell)), console)


@without_denormals()
def resume(
    kind: type[Task],
    run: Run,
    console: Console,
    cell: str | None = None,
    patience: int | None = None,
    **length: Any,
) -> Run:
    """Go on with an interrupted run, or train a finished one for longer.

    cell: the file of your own cell, as path.py:ClassName. patience: another one. length:
    epochs, minutes and steps, the new length of the training where one of them is given.
    """
    if "found" in run.config and "metadata" not in run.config:
        raise RunError(
            f"{run.config_file}: was written by an earlier version of elman, which had other names "
            "in it; go on with that version, or train anew"
        )
    former = options = options_of(run, kind)
    if any(value is not None for value in length.values()):
        options = replace(options, **length)
    if patience is not None:
        options = replace(options, patience=patience)
    require_processes(options)

    def prepare() -> None:
        run.remove_unfinished()
        if options != former:
            run.save_config({**run.config, "options": asdict(options)})
        if "metadata" not in run.config:
            _prepare(kind(run, options), console)

    first_does(prepare)
    built = cell_class(trusted_cell(run, options, cell))
    with reading(run.config_file, "the description of a training", error=RunError, cure=RESTORE):
        begun = _begun(kind(run, options), built)
    return _go_on(begun, console)


def trusted_cell(run: Run, options: ModelOptions, cell: str | None) -> str:
    """The cell to build; code from outside is only run where the user names it now."""
    if cell is None and not is_built_in(options.cell):
        raise RunError(
            f"{run.folder}: was trained with a cell of its own, {options.cell}; a run folder runs "
            "no code, so name it: --cell path.py:ClassName, or load(run, cell=ClassName)"
        )
    return cell or options.cell


def _prepare(task: Task, console: Console) -> None:
    with reported(console) as report:
        metadata = task.prepare(report)
    task.run.save_config({**task.run.config, "metadata": metadata})


def _seen(folder: Path) -> Run:
    """The run that the first process made, on whichever machine."""
    try:
        return open_run(folder)
    except RunError as error:
        if process_rank() == 0:
            raise
        raise RunError(
            f"{error}, but the first process made it: all machines must share its file system"
        ) from error


class _Begun(NamedTuple):
    """A training, and what its config.json and its data call for."""

    task: Task
    cell: type[Cell]
    model: torch.nn.Module
    train_batches: Batches
    valid_batches: Batches


def _begun(task: Task, cell: type[Cell]) -> _Begun:
    use_threads(task.options.threads)
    torch.manual_seed(task.options.seed)
    return _Begun(task, cell, task.build(cell), *task.batches())


def _go_on(begun: _Begun, console: Console) -> Run:
    """Train from the last checkpoint to the end, then show the results."""
    # Lightning takes seconds to import, which nothing but training should wait for.
    from elman.train.fit import fit

    task, cell = begun.task, begun.cell
    leads = process_rank() == 0
    if leads:
        _announce(task, begun.model, console)
    if not fit(task, begun.model, begun.train_batches, begun.valid_batches, console):
        folder = shlex.quote(str(task.run.folder))
        again = f"elman train --resume {folder}{cell_argument(task.options.cell)}"
        if leads:
            console.print(f"interrupted; go on with: {again}", highlight=False, markup=False)
        raise KeyboardInterrupt
    if leads:
        task.finish(cell, console)
    return task.run


def _announce(task: Task, model: torch.nn.Module, console: Console) -> None:
    o = task.options
    count = sum(p.numel() for p in model.parameters())
    console.print(
        f"{task.summary()}; {o.layers} x {o.hidden} {o.cell}, {count:,} parameters; "
        f"{task.run.folder}",
        highlight=False,
        markup=False,
    )
