"""What can be trained: a folder a task, and what they share in `base`."""

from pathlib import Path
from typing import Any

from elman.cells import Cell
from elman.data.core.files import RESTORE
from elman.data.core.reading import reading
from elman.errors import RunError
from elman.train.custom_cell import cell_class
from elman.train.run import Run, open_run
from elman.train.task import Task, options_of
from elman.train.training import trusted_cell

import importlib
KINDS: tuple = ()
for _module, _name in [('elman.tasks.caption.task', 'Captioning'), ('elman.tasks.classify.task', 'Classification'), ('elman.tasks.forecast.task', 'Forecasting'), ('elman.tasks.generate.task', 'Generation'), ('elman.tasks.lm.task', 'LanguageModelling'), ('elman.tasks.music.task', 'Music'), ('elman.tasks.pixels.task', 'PixelTask'), ('elman.tasks.tag.task', 'Tagging'), ('elman.tasks.track.task', 'Tracking'), ('elman.tasks.transcribe.task', 'Transcription'), ('elman.tasks.translate.task', 'Translation')]:
    try:
        KINDS += (getattr(importlib.import_module(_module), _name),)
    except Exception as error:
        print("NOT YET", _module, error)
TASKS: dict[str, type[Task]] = {task.name: task for task in KINDS}


def task_of(run: Run) -> type[Task]:
    """The kind of training that a run is of; RunError where this elman does not know it."""
    name = run.config.get("task")
    if not isinstance(name, str) or name not in TASKS:
        raise RunError(
            f"{run.folder}: is a run of task '{name}', which this elman does not know; it knows "
            f"{', '.join(TASKS)}"
        )
    return TASKS[name]


def load(folder: str | Path, cell: type[Cell] | str | None = None) -> Any:
    """A trained model from its run folder, ready to use.

    cell: the class of a cell of one's own (or path.py:ClassName), where the run was trained with
    one. A run folder holds no code, and none is run from it.

    Raises RunError where the folder is no run, or its weights are damaged or foreign.
    """
    run = open_run(folder)
    kind = task_of(run)
    options = options_of(run, kind)
    build = cell if isinstance(cell, type) else cell_class(trusted_cell(run, options, cell))
    with reading(run.config_file, "the description of a model", error=RunError, cure=RESTORE):
        return kind(run, options).load(build)
