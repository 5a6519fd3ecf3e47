"""Settings: environment variables, and options that the command line shows.

Environment variables are read when they are needed:

ELMAN_BACKEND  auto, llvm, eager or loop: what runs a cell over time
ELMAN_CHECK    1: compare each compiled run with the eager backend; the expressions of a plan are
               verified after each pass anyway
ELMAN_DEBUG    1: how long each pass and compilation takes; 2: and the plan; 3: and the step after
               each pass; 4: and the code that is emitted; 5: and its assembly; on standard error
ELMAN_DUMP     a folder: the emitted code, optimised code and assembly of each loop, as files
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Any

from elman.errors import unknown

#: The engines of `elman.runtime.dispatch`, the fastest first.
ENGINE_NAMES = ("llvm", "eager")
BACKENDS = ("auto", *ENGINE_NAMES, "loop")
#: The levels of ELMAN_DEBUG.
TIMES, PLAN, PASSES, SOURCE, ASSEMBLY = range(1, 6)


def backend(asked: str = "auto") -> str:
    """The backend to use: the one asked for, else ELMAN_BACKEND."""
    name = asked if asked != "auto" else os.environ.get("ELMAN_BACKEND") or "auto"
    if name not in BACKENDS:
        raise unknown("backend", name, BACKENDS)
    return name


def check() -> bool:
    """Whether every run is compared with the eager backend."""
    value = os.environ.get("ELMAN_CHECK", "") or "0"
    if value not in ("0", "1"):
        raise unknown("value of ELMAN_CHECK", value, ("0", "1"))
    return value == "1"


def debug() -> int:
    """How much is printed of what the compiler does."""
    value = os.environ.get("ELMAN_DEBUG", "") or "0"
    levels = [str(level) for level in range(ASSEMBLY + 1)]
    if value not in levels:
        raise unknown("level of ELMAN_DEBUG", value, levels)
    return int(value)


def tell(level: int, title: str, text: Callable[[], str] | None = None) -> None:
    """Print a title, and the text below it, from this level of ELMAN_DEBUG on."""
    if debug() >= level:
        print(f"elman: {title}", file=sys.stderr)
        if text is not None:
            print(f"{text()}\n", file=sys.stderr)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Tell how long something took."""
    start = time.perf_counter()
    yield
    tell(TIMES, f"{what}: {1000 * (time.perf_counter() - start):.1f} ms")


def option(default: Any, help: str, panel: str, **more: Any) -> Any:
    """A dataclass field that the command line shows with this help, in this panel."""
    metadata = {"help": help, "panel": panel, **more}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)
