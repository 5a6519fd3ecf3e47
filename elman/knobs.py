"""Environment variables that steer elman, read when they are needed.

ELMAN_BACKEND  auto, llvm, eager or loop: what runs a cell over time
ELMAN_CHECK    1: verify after each pass, and compare each run with the eager backend
"""

import os

from elman.errors import unknown

BACKENDS = ("auto", "llvm", "eager", "loop")


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
