"""What is made once in a process, whichever of its threads asks for it first."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, ParamSpec, TypeVar

from elman.backends.locks import Rank, held_at_fork
from elman.cells.plan_cache import making

__all__ = ["Once", "making"]

P = ParamSpec("P")
T = TypeVar("T")

held_at_fork(Rank.MAKING, making)


class Once(Generic[P, T]):
    """A function whose results are kept: as `functools.cache`, which though may call the function
    once for each thread that comes before the first result, and hand out several."""

    def __init__(self, make: Callable[P, T]) -> None:
        self._make = make
        self._made: dict[Hashable, T] = {}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        assert not kwargs
        if args not in self._made:
            with making:
                if args not in self._made:
                    self._made[args] = self._make(*args, **kwargs)
        return self._made[args]

    def cache_clear(self) -> None:
        """Forget all results."""
        self._made.clear()
