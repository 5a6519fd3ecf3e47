"""A cell named on the command line: a built-in one, or a class in a user's file."""

import importlib.util
import shlex
import sys
from pathlib import Path
from typing import Any

from elman.cells import CELLS, Cell, cell_named
from elman.errors import OptionError, unknown


def cell_options(given: list[str]) -> dict[str, Any]:
    """["update=replace", "depth=3"] as the arguments that they stand for."""
    found: dict[str, Any] = {}
    for pair in given:
        name, sign, value = pair.partition("=")
        if not sign or not name.isidentifier():
            raise OptionError(f"a cell option is name=value, as update=replace; got '{pair}'")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def is_built_in(name: str) -> bool:
    """Whether the name is that of a cell of elman's own."""
    return name.lower() in CELLS


def cell_argument(name: str) -> str:
    """What a command on a run needs to name its cell again: nothing for one of elman's own."""
    return "" if is_built_in(name) else f" --cell {shlex.quote(name)}"


def cell_class(name: str) -> type[Cell]:
    """A built-in cell, or the class in path.py:ClassName."""
    path, colon, wanted = name.rpartition(":")
    if not colon:
        if not is_built_in(name):
            raise unknown("cell", name, [*CELLS, "path.py:ClassName"])
        return cell_named(name)
    file = Path(path)
    if not file.is_file():
        raise OptionError(f"--cell {name}: there is no file {file}")
    spec = importlib.util.spec_from_file_location(f"elman_custom_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise OptionError(f"--cell {name}: {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up there
    sys.path.insert(0, str(file.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise OptionError(f"--cell {name}: {file} cannot be run: {error!r}") from error
    finally:
        sys.path.pop(0)
    found = getattr(module, wanted, None)
    if not (isinstance(found, type) and issubclass(found, Cell)):
        classes = [
            k for k, v in vars(module).items() if isinstance(v, type) and issubclass(v, Cell)
        ]
        raise unknown(f"cell in {file}", wanted, classes)
    return found
