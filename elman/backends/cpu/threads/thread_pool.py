"""A thread pool, for a torch without OpenMP."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread

from elman.backends.cpu.jit.once import Once

_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class ThreadPool:
    """Python threads that wait for shares of work; they start when first needed."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._busy = Lock()

    def run(self, entry: int, data: int, threads: int) -> None:
        """Call entry(data, thread, n) on n threads at once: n is ``threads``, or 1 while busy.

        The shares of one call may wait for each other, so they never queue behind another's.
        """
        function = _function(entry)
        if threads < 2 or not self._busy.acquire(blocking=False):
            function(data, 0, 1)
            return
        try:
            while len(self._workers) < threads - 1:
                self._workers.append(_Worker())
            helping = self._workers[: threads - 1]
            for index, worker in enumerate(helping):
                worker.shares.put((function, data, index + 1, threads))
            try:
                function(data, 0, threads)
            finally:
                for worker in helping:
                    worker.wait()
        finally:
            self._busy.release()


class _Worker:
    def __init__(self) -> None:
        self.shares: SimpleQueue[tuple[Callable[..., None], int, int, int]] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        Thread(target=self._work, daemon=True, name="elman").start()

    def _work(self) -> None:
        while True:
            function, *arguments = self.shares.get()
            function(*arguments)
            self._done.put(None)

    def wait(self) -> None:
        """Until the share is done, also where the user interrupts: its memory is still in use."""
        try:
            self._done.get()
        except BaseException:
            self._done.get()
            raise


@Once
def _function(entry: int) -> Callable[..., None]:
    return _ENTRY(entry)
