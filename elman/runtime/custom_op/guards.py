"""What torch.compile checks before it runs a graph again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from torch._guards import Guard, TracingContext

from elman.cells.cell import Cell


def recompile_unless(cell: Cell, holds: Callable[[Cell], bool]) -> None:
    """Let the graph that torch.compile is making now serve as long as this holds of the cell.

    torch.compile does not look into the step of a cell, so it cannot know by itself what the step
    reads: attributes, hooks, globals. Where no graph is being made nothing happens.
    """
    context = TracingContext.try_get()
    if context is None:
        return
    from torch._dynamo.source import GlobalStateSource  # there by now, and slow to import before

    known = ref(cell)

    def unchanged(_: Any) -> bool:
        now = known()
        try:
            return now is not None and holds(now)
        except Exception:  # compiling anew raises it where it can be read
            return False

    def cell_is_unchanged(builder: Any, guard: Guard) -> None:
        said = [f"the step of {type(known()).__name__} is what was compiled"]
        add = builder.guard_manager.root.add_lambda_guard
        try:
            add(unchanged, said, None)
        except TypeError:  # before torch 2.9
            add(unchanged, said)

    context.guards_context.dynamo_guards.add(Guard(GlobalStateSource(), cell_is_unchanged))
