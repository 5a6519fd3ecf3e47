"""What this process may use of its machine: cores and memory, as a container limits them.

On Linux a process may be in control groups that give it a share of the cores' time, or less memory
than there is. Version 1 of the interface has a tree of groups for each kind of limit, version 2 one
for all; a group keeps within the limits of those that it is in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

SYSTEM = Path("/")


@lru_cache
def cores() -> int:
    """How many threads can run at the same time, at least 1: of the cores that this process may
    run on, as many as it is given the time of, rounded down."""
    if hasattr(os, "sched_getaffinity"):
        there = len(os.sched_getaffinity(0))
    else:
        there = os.cpu_count() or 1
    return max(1, int(min(there, cpu_quota())))


@lru_cache
def memory() -> int:
    """Bytes of memory that this process may use."""
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        there = 16 << 30
    return int(min(there, memory_limit()))


def cpu_quota(system: Path = SYSTEM) -> float:
    """How many cores' time the control groups of this process give it; infinity without a limit.

    system: where /proc and /sys are.
    """
    quotas = [float("inf")]
    for group in _groups(system, "cpu"):
        both = _words(group / "cpu.max")  # version 2: "150000 100000", or "max 100000"
        if not both:
            both = _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        quota, period = (_number(word) for word in [*both, "", ""][:2])
        if quota > 0 and 0 < period < float("inf"):  # -1: version 1 without a limit
            quotas.append(quota / period)
    return min(quotas)


def memory_limit(system: Path = SYSTEM) -> float:
    """Bytes that the control groups of this process leave it; infinity without a limit."""
    limits = [float("inf")]
    for group in _groups(system, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += [number for word in _words(group / name) if (number := _number(word)) > 0]
    return min(limits)


class _Mount(NamedTuple):
    """A tree of groups. root: which group stands at ``place``, where this process sees the tree."""

    controllers: frozenset[str]
    root: str
    place: Path


def _groups(system: Path, controller: str) -> Iterator[Path]:
    """The folders of the groups that limit this process, from its own up."""
    mounts = list(_mounts(system))
    for line in _lines(system / "proc/self/cgroup"):  # "4:cpu,cpuacct:/a/b"; version 2: "0::/a/b"
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if names and controller not in names.split(","):
            continue
        for mount in mounts:
            if controller in mount.controllers if names else not mount.controllers:
                yield from _upward(mount, path)


def _upward(mount: _Mount, path: str) -> Iterator[Path]:
    inside = Path(path).parts[1:]
    above = Path(mount.root).parts[1:]
    # In a container that sees a part of the tree, the path may be one of the tree as a whole, or
    # lead out of what is seen: then what is seen begins with the process's group.
    inside = inside[len(above) :] if inside[: len(above)] == above else ()
    if ".." in inside:
        inside = ()
    for depth in range(len(inside), -1, -1):
        yield mount.place.joinpath(*inside[:depth])


def _mounts(system: Path) -> Iterator[_Mount]:
    """The trees of groups: "35 25 0:30 /root /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"."""
    for line in _lines(system / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        where, what = before.split(" "), after.split(" ")
        if len(where) < 5 or what[0] not in ("cgroup", "cgroup2"):
            continue
        root, place = (name.replace(r"\040", " ") for name in where[3:5])
        kinds = frozenset(what[2].split(",")) if what[0] == "cgroup" and len(what) > 2 else ()
        yield _Mount(frozenset(kinds), root, system / place.lstrip("/"))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _number(word: str) -> float:
    """A limit; infinity where there is none."""
    try:
        return float(int(word))
    except ValueError:
        return float("inf")
