"""What torch.compile checks before it runs a graph again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from torch._guards import Guard, TracingContext

from elman.cells.cell import Cell
from elman.cells.plan_cache import cache_of

#: What guards have replaced. A module that goes while torch.compile walks its guards takes the
#: guards with it that are being walked; so all of it goes when the next graph is made.
_replaced: list[Any] = []


def recompile_unless(cell: Cell, holds: Callable[[Cell], bool]) -> None:
    """Let the graph that torch.compile is making now serve as long as this holds of the cell.

    torch.compile does not look into the step of a cell, so it cannot know by itself what the step
    reads: attributes, hooks, globals. Where no graph is being made nothing happens.
    """
    context = TracingContext.try_get()
    if context is None:
        return
    _replaced.clear()
    from torch._dynamo.source import GlobalStateSource  # there by now, and slow to import before

    known = ref(cell)

    def unchanged(_: Any) -> bool:
        now = known()
        if now is None:
            return False
        before = cache_of(now).current
        try:
            return holds(now)
        except Exception:  # compiling anew raises it where it can be read
            return False
        finally:
            if cache_of(now).current is not before:
                _replaced.append(before)

    def cell_is_unchanged(builder: Any, guard: Guard) -> None:
        said = [f"the step of {type(known()).__name__} is what was compiled"]
        add = builder.guard_manager.root.add_lambda_guard
        try:
            add(unchanged, said, None)
        except TypeError:  # before torch 2.9
            add(unchanged, said)

    context.guards_context.dynamo_guards.add(Guard(GlobalStateSource(), cell_is_unchanged))
