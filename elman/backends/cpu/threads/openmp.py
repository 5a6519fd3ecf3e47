"""Generated functions run on the threads that torch already has.

After each parallel operation torch's OpenMP workers spin on their cores for a while: threads of
one's own would fight them, and theirs wake within a microsecond. So a function is started through
the OpenMP library that torch is linked to.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from threading import Event, Lock
from typing import Any, NamedTuple

import torch

from elman.backends import limits
from elman.backends.cpu.jit.library import load
from elman.backends.cpu.jit.once import Once
from elman.backends.cpu.threads.thread_pool import ThreadPool

# GNU's interface, which LLVM's and Intel's libraries for Linux offer too.
_GNU = ("GOMP_parallel", "omp_get_num_threads", "omp_get_thread_num")
_LLVM = (
    "__kmpc_fork_call",
    "omp_get_num_threads",
    "omp_get_thread_num",
    "__kmpc_global_thread_num",
    "__kmpc_push_num_threads",
)

# launch starts a team of %size threads; each calls entry(data, thread, threads) unless it is one
# too many. OpenMP may give fewer threads than it is asked for (in a parallel region there already,
# OMP_THREAD_LIMIT, OMP_DYNAMIC), and a barrier would wait for the missing ones for ever: hence
# the number that entry gets is what there is and not what was asked for.
_COMMON = """
%environment = type { ptr, ptr, i64, ptr }  ; entry, data, threads, table

declare i32 @llvm.smin.i32(i32, i32)

define internal void @share(ptr %given) #0 {
  %data_at = getelementptr %environment, ptr %given, i64 0, i32 1
  %threads_at = getelementptr %environment, ptr %given, i64 0, i32 2
  %table_at = getelementptr %environment, ptr %given, i64 0, i32 3
  %entry = load ptr, ptr %given
  %data = load ptr, ptr %data_at
  %asked = load i64, ptr %threads_at
  %table = load ptr, ptr %table_at
  %size_at = getelementptr ptr, ptr %table, i64 1
  %index_at = getelementptr ptr, ptr %table, i64 2
  %get_size = load ptr, ptr %size_at
  %get_index = load ptr, ptr %index_at
  %size = call i32 %get_size()
  %index = call i32 %get_index()
  %asked32 = trunc i64 %asked to i32
  %least = call i32 @llvm.smin.i32(i32 %asked32, i32 %size)
  %takes_part = icmp slt i32 %index, %least
  br i1 %takes_part, label %work, label %done
work:
  %thread = sext i32 %index to i64
  %threads = sext i32 %least to i64
  call void %entry(ptr %data, i64 %thread, i64 %threads)
  br label %done
done:
  ret void
}

define void @launch(ptr %table, ptr %entry, ptr %data, i64 %threads, i64 %size) #0 {
  %alone = icmp slt i64 %threads, 2
  br i1 %alone, label %one, label %team
one:
  call void %entry(ptr %data, i64 0, i64 1)
  ret void
team:
  %given = alloca %environment, align 8
  %data_at = getelementptr %environment, ptr %given, i64 0, i32 1
  %threads_at = getelementptr %environment, ptr %given, i64 0, i32 2
  %table_at = getelementptr %environment, ptr %given, i64 0, i32 3
  store ptr %entry, ptr %given
  store ptr %data, ptr %data_at
  store i64 %threads, ptr %threads_at
  store ptr %table, ptr %table_at
  %size32 = trunc i64 %size to i32
  %fork = load ptr, ptr %table
"""

# What launch calls to run two functions side by side: each has half of the threads to itself and
# counts them from 0. One thread alone runs one after the other: neither waits for the other.
_BESIDE = """
%pair = type { ptr, ptr, ptr, ptr }  ; entry and data of one, entry and data of the other

define void @beside(ptr %pair, i64 %thread, i64 %threads) #0 {
  %data_at = getelementptr %pair, ptr %pair, i64 0, i32 1
  %other_at = getelementptr %pair, ptr %pair, i64 0, i32 2
  %other_data_at = getelementptr %pair, ptr %pair, i64 0, i32 3
  %entry = load ptr, ptr %pair
  %data = load ptr, ptr %data_at
  %other = load ptr, ptr %other_at
  %other_data = load ptr, ptr %other_data_at
  %half = sdiv i64 %threads, 2
  %alone = icmp eq i64 %half, 0
  br i1 %alone, label %in_turn, label %at_once
in_turn:
  call void %entry(ptr %data, i64 0, i64 1)
  call void %other(ptr %other_data, i64 0, i64 1)
  ret void
at_once:
  %is_of_one = icmp slt i64 %thread, %half
  br i1 %is_of_one, label %of_one, label %of_other
of_one:
  call void %entry(ptr %data, i64 %thread, i64 %half)
  ret void
of_other:
  %index = sub i64 %thread, %half
  %rest = sub i64 %threads, %half
  call void %other(ptr %other_data, i64 %index, i64 %rest)
  ret void
}
"""

_FORK_GNU = """
  call void %fork(ptr @share, ptr %given, i32 zeroext %size32, i32 zeroext 0)
  ret void
}
attributes #0 = { nounwind }
"""

_FORK_LLVM = """
  %thread_at = getelementptr ptr, ptr %table, i64 3
  %push_at = getelementptr ptr, ptr %table, i64 4
  %get_thread = load ptr, ptr %thread_at
  %push = load ptr, ptr %push_at
  %thread = call i32 %get_thread(ptr @place)
  call void %push(ptr @place, i32 signext %thread, i32 signext %size32)
  call void (ptr, i32, ptr, ...) %fork(ptr @place, i32 signext 1, ptr @microtask, ptr %given)
  ret void
}

@where = internal constant [23 x i8] c";elman;launch;0;0;;\\00\\00\\00\\00"
@place = internal global { i32, i32, i32, i32, ptr } { i32 0, i32 2, i32 0, i32 0, ptr @where }

define internal void @microtask(ptr %thread, ptr %bound, ptr %given) #0 {
  call void @share(ptr %given)
  ret void
}
attributes #0 = { nounwind }
"""

_LAUNCH = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)
_pool = ThreadPool()
_forked = Event()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked.set)


def max_threads() -> int:
    """How many threads a function should run on: torch's number, at most one a core
    that this process has (`limits.cores`).

    1 in a forked process: the threads of its parent's OpenMP team are not there, and GNU's
    library would wait for them for ever.
    """
    return 1 if _forked.is_set() else min(torch.get_num_threads(), limits.cores())


def run(entry: int, data: int, threads: int) -> None:
    """Call entry(data, thread, n) on n threads at once, and return when all have.

    entry: the address of a function ``void (ptr, i64, i64)``. thread: 0 to n - 1. n is
    ``threads`` or less, where there are not so many to be had: entry divides its work, and counts
    at its barriers, by the n that it gets. Any thread may call, and several may at once.
    """
    launch, _, table = _launcher()
    if threads < 2 or _forked.is_set():
        launch(table, entry, data, 1, 1)
        return
    share = _taken.add(threads)
    try:
        if table is None:
            _pool.run(entry, data, share)
        else:
            # GNU's library ends the threads that a smaller team has no use for and starts new
            # ones for the next larger one: so the team keeps the size of torch's own.
            launch(table, entry, data, share, max(share, torch.get_num_threads()))
    finally:
        _taken.remove(share)


def run_both(one: tuple[int, int], other: tuple[int, int], threads: int) -> None:
    """Call two functions, each (entry, data) as `run` takes them, side by side: each on half of
    the threads; one after the other where there is but one."""
    pair = (ctypes.c_int64 * 4)(*one, *other)
    run(_launcher().beside, ctypes.addressof(pair), threads)


@Once
def yield_address() -> int:
    """The address of a function without arguments that lets other threads have the core.

    A barrier should call it after some hundred turns of spinning: where the thread that it waits
    for has no core, it would otherwise wait for milliseconds.
    """
    windows = sys.platform == "win32"
    library: Any = ctypes.CDLL("kernel32" if windows else None)
    function = library.SwitchToThread if windows else library.sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class _Taken:
    """How many threads run for the calls of all Python threads.

    Teams that wait at their barriers for threads that other teams keep off the cores would take
    a hundred times as long as one thread each.
    """

    def __init__(self) -> None:
        self.threads = 0
        self._lock = Lock()

    def add(self, threads: int) -> int:
        """As many as asked for, or what other calls leave of the cores."""
        with self._lock:
            if self.threads:
                threads = min(threads, max(1, limits.cores() - self.threads))
            self.threads += threads
            return threads

    def remove(self, threads: int) -> None:
        with self._lock:
            self.threads -= threads


_taken = _Taken()


class _Launcher(NamedTuple):
    """The function ``launch``, the address of ``beside``, and the addresses that launch needs:
    None without OpenMP."""

    launch: Callable[..., None]
    beside: int
    table: ctypes.Array[ctypes.c_void_p] | None


@Once
def _launcher() -> _Launcher:
    found = _openmp()
    names = found[0] if found else _GNU
    fork = _FORK_GNU if names is _GNU else _FORK_LLVM
    library = load(_COMMON + fork + _BESIDE, "team")
    table = (ctypes.c_void_p * len(names))(*found[1]) if found else None
    launch = library.function("launch", _LAUNCH)
    return _Launcher(launch, library.address("beside"), table)


def _openmp() -> tuple[tuple[str, ...], list[int | None]] | None:
    """The functions of the OpenMP library that torch calls, and their addresses."""
    for scope in _scopes():
        for names in (_GNU, _LLVM):
            functions: list[Any] = [getattr(scope, name, None) for name in names]
            if all(functions):
                return names, [ctypes.cast(it, ctypes.c_void_p).value for it in functions]
    return None


def _scopes() -> list[ctypes.CDLL]:
    """Where the linker looks for what torch calls: first in everyone's, then in its own libraries.

    So it is the same library, even where the process holds several or one was preloaded.
    """
    if sys.platform == "win32":  # there a name is not looked up in the libraries of a library
        return []
    own = ctypes.CDLL(torch._C.__file__)
    return [own] if sys.platform == "darwin" else [ctypes.CDLL(None), own]
