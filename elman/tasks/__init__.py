"""What can be trained: a folder a task, and what they share in `base`."""

from pathlib import Path
from typing import Any

from elman.cells import Cell
from elman.data.core.files import RESTORE
from elman.data.core.reading import reading
from elman.errors import OptionError, RunError
from elman.tasks.caption.task import Captioning
from elman.tasks.classify.task import Classification
from elman.tasks.forecast.task import Forecasting
from elman.tasks.generate.task import Generation
from elman.tasks.lm.task import LanguageModelling
from elman.tasks.music.task import Music
from elman.tasks.pixels.task import PixelTask
from elman.tasks.tag.task import Tagging
from elman.tasks.track.task import Tracking
from elman.tasks.transcribe.task import Transcription
from elman.tasks.translate.task import Translation
from elman.train.custom_cell import cell_class
from elman.train.run import Run, open_run
from elman.train.task import Task, options_of
from elman.train.training import trusted_cell

#: The built-in tasks.
KINDS: tuple[type[Task], ...] = (
    LanguageModelling,
    Classification,
    Tagging,
    Translation,
    Generation,
    Captioning,
    PixelTask,
    Music,
    Tracking,
    Forecasting,
    Transcription,
)
#: Every task by the name of its command.
TASKS: dict[str, type[Task]] = {task.name: task for task in KINDS}


def register(kind: type[Task]) -> type[Task]:
    """Make a task of your own known by its name: to `elman.load`, and to commands begun after it.

    Raises OptionError where another task has that name.
    """
    known = TASKS.setdefault(kind.name, kind)
    if (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
        raise OptionError(f"there is a task '{kind.name}' already: {known.__name__}")
    TASKS[kind.name] = kind
    return kind


def task_of(run: Run) -> type[Task]:
    """The kind of training that a run is of; RunError where this elman does not know it."""
    name = run.config.get("task")
    if not isinstance(name, str) or name not in TASKS:
        raise RunError(
            f"{run.folder}: is a run of task '{name}', which this elman does not know; it knows "
            f"{', '.join(TASKS)}. A task of your own is known once it is registered"
        )
    return TASKS[name]


def load(folder: str | Path, cell: type[Cell] | str | None = None) -> Any:
    """A trained model from its run folder, ready to use.

    cell: your own cell's class (or path.py:ClassName), where the run was trained with
    one. A run folder holds no code, and none is run from it.

    Raises RunError where the folder is no run, or its weights are damaged or foreign.
    """
    run = open_run(folder)
    kind = task_of(run)
    options = options_of(run, kind)
    build = cell if isinstance(cell, type) else cell_class(trusted_cell(run, options, cell))
    with reading(run.config_file, "the description of a model", error=RunError, cure=RESTORE):
        return kind(run, options).load(build)
