"""Machine code on disk, so that a second run compiles nothing.

One folder, the user's or root's, that nobody else can write to: what lies in it is executed.
$ELMAN_CACHE names it, otherwise it is "elman" in the user's cache folder. Each entry is a line of
JSON (what it was made from, and a checksum) and then the object code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
import tempfile
import time
import warnings
from functools import lru_cache
from pathlib import Path

SUFFIX = ".object"
LIMIT = 256 * 1024 * 1024
"""How many bytes all entries together may take; the least recently used go first."""
_ABANDONED_AFTER = 3600.0


def read(digest: str, made_from: dict[str, str]) -> bytes | None:
    """The code of an entry; None where there is none, or a damaged or stale one.

    ``made_from`` says what the entry must have been made from: versions, key, target, options.
    """
    folder = _folder()
    if folder is None:
        return None
    path = folder / (digest + SUFFIX)
    try:
        header, _, code = path.read_bytes().partition(b"\n")
        if json.loads(header) != {**made_from, "sha256": _checksum(code)}:
            return None
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):  # a cache that is only read has no least recently used
        os.utime(path)
    return code


def write(digest: str, made_from: dict[str, str], code: bytes) -> None:
    """Add or replace an entry, whole or not at all; a disk that is full or read-only only warns,
    once."""
    folder = _folder()
    if folder is None:
        return
    header = json.dumps({**made_from, "sha256": _checksum(code)}).encode()
    try:
        descriptor, aside = tempfile.mkstemp(dir=folder, suffix=".part")
        try:
            with open(descriptor, "wb") as file:
                file.write(header + b"\n" + code)
            os.replace(aside, folder / (digest + SUFFIX))
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        _evict(folder)
    except OSError as error:
        _warn_once(f"{folder}: compiled code is not kept: {error.strerror or error}")


def _folder() -> Path | None:
    """The folder of the cache, made where missing; None where it cannot be trusted."""
    try:
        folder = _place()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except (OSError, RuntimeError) as error:
        _warn_once(f"compiled code is not kept: {error}; set ELMAN_CACHE to a folder of yours")
        return None
    if not hasattr(os, "getuid"):
        return folder
    # Root can write to any folder: one that is its alone, as in an image, is as safe as one's own.
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        _warn_once(
            f"{folder}: compiled code is neither read from nor kept in a folder that others can "
            "write to: make it yours with mode 0700, or set ELMAN_CACHE to another one"
        )
        return None
    return folder


def _place() -> Path:
    if chosen := os.environ.get("ELMAN_CACHE"):
        return Path(chosen)
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "elman" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "elman"
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "elman"


def _evict(folder: Path) -> None:
    """Remove the oldest entries beyond the limit, and what a killed process left half written."""
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            if path.suffix == SUFFIX:
                entries.append((found.st_mtime_ns, found.st_size, path))
            elif path.suffix == ".part" and time.time() - found.st_mtime > _ABANDONED_AFTER:
                path.unlink(missing_ok=True)
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= LIMIT:
            return
        path.unlink(missing_ok=True)
        total -= size


def _checksum(code: bytes) -> str:
    return hashlib.sha256(code).hexdigest()


@lru_cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)
