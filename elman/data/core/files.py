"""Files that appear whole or not at all."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from elman.data.core.reading import reading
from elman.errors import RunError

T = TypeVar("T")

#: What to do where a file of a run folder is damaged.
RESTORE = "restore it from a copy, or train anew"


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write to; it takes the target's place when the block ends well.

    Raises RunError where the disk is full, and leaves the target as it was.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        _sync(aside)
        if aside.is_dir() and target.is_dir():
            shutil.rmtree(target)
        os.replace(aside, target)
    except OSError as error:
        remove(aside)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise RunError(
                f"{target}: no room left to write it ({error.strerror}); what was saved before is "
                "intact: free some space, then go on with elman train --resume"
            ) from error
        raise RunError(f"{target}: cannot be written: {error.strerror or error}") from error
    except BaseException:
        remove(aside)
        raise


def write_text(target: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written_aside(target) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Write a JSON file that a person can read, whole or not at all."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds; RunError where it is missing or damaged."""
    if not path.exists():
        raise RunError(f"{path}: no such file")
    with reading(path, "JSON", error=RunError, cure=RESTORE):
        return json.loads(path.read_text(encoding="utf-8"))


def loaded(path: Path, kind: str, make: Callable[[Any], T]) -> T:
    """What ``make`` makes of a JSON file of a run folder; RunError where it cannot."""
    value = read_json(path)
    with reading(path, f"{kind} that elman wrote", error=RunError, cure=RESTORE):
        return make(value)


def _sync(path: Path) -> None:
    # Without this a crash of the machine may leave the new name on empty contents.
    for file in path.iterdir() if path.is_dir() else [path]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a folder, where that can be done."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
