"""The border to what others wrote: damaged files and foreign libraries end in one error."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from elman.errors import DataError, ElmanError, RunError

#: Memory addresses, which differ from run to run.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@contextmanager
def reading(
    path: Path,
    kind: str,
    *,
    error: type[ElmanError] = DataError,
    cure: str = "fetch it again, or save it anew",
) -> Iterator[None]:
    """A block that reads a file as ``kind``: whatever it raises becomes an ``error`` that names the
    file, says why, and what to do. DataError and RunError pass, as they say all that already.

    Damage makes a library raise nearly anything: KeyError, struct.error, OverflowError,
    RecursionError, a panic of Rust. So this stands around foreign calls and around what is made
    of a file's values, and around nothing else.
    """
    try:
        yield
    except (DataError, RunError):
        raise
    except MemoryError as damaged:
        raise error(
            f"{path}: cannot be read as {kind} (it asks for more memory than there is); {cure}"
        ) from damaged
    except BaseException as damaged:
        if not isinstance(damaged, Exception) and type(damaged).__name__ != "PanicException":
            raise
        raise error(f"{path}: cannot be read as {kind} ({reason(damaged)}); {cure}") from damaged


def reason(error: BaseException) -> str:
    """What an error says, in a line of at most 200 characters, the same each time."""
    text = getattr(error, "strerror", None) or str(error)
    said = " ".join(_ADDRESS.sub("", text).split()).rstrip(".")
    if isinstance(error, KeyError | RecursionError) or not said:
        said = f"{type(error).__name__} {said}".strip()
    return said if len(said) <= 200 else f"{said[:197]}..."


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is that of none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
