"""The run folder: everything of one training, readable by anyone."""

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elman.data.core.files import read_json, remove, write_json
from elman.errors import RunError

FORMAT = 1
#: What `elman.data.core.files.written_aside` calls its files.
UNFINISHED = ".*.part"


@dataclass(frozen=True)
class Run:
    """A run folder on disk.

    config.json         what was asked for, and what the data turned out to be
    model.safetensors   the weights that are kept: of the best validation, or the last
    tokenizer.json      the units of text
    metrics.csv         a row every few steps and at every validation
    curves.png          the same to look at
    sample.txt          what the model writes
    checkpoints/        where training goes on after an interruption
    data/               the text as numbers
    """

    folder: Path

    @property
    def config_file(self) -> Path:
        """What was asked for."""
        return self.folder / "config.json"

    @property
    def weights_file(self) -> Path:
        """The best weights."""
        return self.folder / "model.safetensors"

    @property
    def tokenizer_file(self) -> Path:
        """The units of text."""
        return self.folder / "tokenizer.json"

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.folder / "checkpoints"

    @property
    def config(self) -> dict[str, Any]:
        """What config.json holds; RunError where this is no run folder or of another format."""
        value = read_json(self.config_file)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise RunError(f"{self.config_file}: is no configuration that this elman wrote")
        return value

    def remove_unfinished(self) -> None:
        """Remove what a killed process was writing when it died."""
        for folder in (self.folder, self.checkpoints, self.folder / "data"):
            for part in folder.glob(UNFINISHED):
                remove(part)

    def save_config(self, config: dict[str, Any]) -> None:
        """Write config.json."""
        write_json(self.config_file, {"format": FORMAT, **config})


@contextmanager
def new_run(folder: Path, force: bool = False) -> Iterator[Run]:
    """A new run folder, whose block makes it trainable; if that fails, all is as it was before.

    Raises RunError where something is there already. force replaces a former run, once the block
    has ended well, and nothing else: a folder that is no run is never touched.
    """
    run = Run(folder)  # its files are named as the user named the folder
    folder = Path(os.path.abspath(folder))
    there = folder.exists()
    occupied = there and not (folder.is_dir() and not _holds_anything(folder))
    if occupied and not _is_run(folder):
        raise RunError(
            f"{folder}: exists and is no run of elman's; choose another folder with --out"
        )
    if occupied and not force:
        again = f"elman train --resume {shlex.quote(str(folder))}"
        raise RunError(
            f"{folder}: a run is there already; go on with it ({again}), choose "
            "another folder (--out), or replace it (--force)"
        )
    former = folder.with_name(f".{folder.name}.replaced")
    try:
        if occupied:
            shutil.rmtree(former, ignore_errors=True)
            folder.rename(former)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made: {error.strerror}") from error
    try:
        yield run
    except BaseException as error:
        for child in folder.iterdir():
            remove(child)
        try:
            if occupied or not there:
                folder.rmdir()
            if occupied:
                former.rename(folder)
        except OSError as kept:
            if not occupied:
                raise error from kept
            raise RunError(f"{error}; the former run is kept in {former}") from error
        raise
    if occupied:
        shutil.rmtree(former, ignore_errors=True)


def open_run(folder: str | Path) -> Run:
    """An existing run folder; RunError where it is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder")
    if not (folder / "config.json").is_file():
        raise RunError(f"{folder}: is no run folder (it has no config.json)")
    run = Run(folder)
    run.config  # noqa: B018  (raises where it cannot be read)
    return run


def _holds_anything(folder: Path) -> bool:
    """Whether there is more than what a process was writing when it was killed."""
    return bool(set(folder.iterdir()) - set(folder.glob(UNFINISHED)))


def _is_run(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "config.json").read_text()).get("format"))
    except (OSError, ValueError, AttributeError):
        return False
