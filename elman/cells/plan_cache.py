"""What has been compiled of a cell, which the cell itself holds."""

from __future__ import annotations

from collections.abc import Hashable
from threading import RLock
from typing import Any

from torch import nn

from elman.cells.reads.snapshot import Snapshot

#: The plans of so many different contents of a cell are kept.
KEPT = 32

#: Held while something is made that all threads share: one at a time, and again by the same thread
#: where that needs something else first.
making = RLock()

#: The plans of one content of a cell, by what else they depend on.
Table = dict[Hashable, Any]


class PlanCache:
    """The plans of a cell, which go when the cell goes.

    Copies of a cell share its plans; what its step can read each of them finds out for itself.
    A pickled cell has none.
    """

    def __init__(self, like: PlanCache | None = None) -> None:
        self.tables: dict[Hashable, Table] = {} if like is None else like.tables
        self.owner: Any = None
        #: What was no longer as it was when the step was last looked at anew.
        self.changed = ""
        self.current: tuple[Snapshot, Table] | None = None

    def __deepcopy__(self, memo: object) -> PlanCache:
        return PlanCache(self)

    def __reduce__(self) -> tuple[type[PlanCache], tuple[()]]:
        return PlanCache, ()

    def table(self, cell: nn.Module) -> tuple[Snapshot, Table]:
        """What the step of the cell can read now, and the plans that hold for it."""
        current = self.current
        if current is not None:
            if current[0].holds():
                return current
            self.changed = current[0].probes.changed()
        return self.renewed(Snapshot(cell))

    def renewed(self, snapshot: Snapshot) -> tuple[Snapshot, Table]:
        """The plans for a new snapshot: those that were made when it was the same."""
        with making:
            table = self.tables.pop(snapshot.key, {})
            self.tables[snapshot.key] = table  # the last used are the last
            while len(self.tables) > KEPT:
                del self.tables[next(iter(self.tables))]
            self.current = snapshot, table
            return self.current


def cache_of(cell: nn.Module) -> PlanCache:
    """The plans of this cell; a shallow copy gets a cache of its own, of the same plans."""
    mapping = cell.__dict__
    cache: PlanCache = mapping.get("_plan_cache") or PlanCache()
    if cache.owner is not mapping:
        if cache.owner is not None:
            cache = PlanCache(cache)
        cache.owner = mapping
        mapping["_plan_cache"] = cache
    return cache
