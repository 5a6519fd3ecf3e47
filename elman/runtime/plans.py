"""The plans of cells: made once, and made anew where what the step reads has changed."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from elman.backends.notices import say_once
from elman.cells.cell import Cell
from elman.cells.checking import keeps
from elman.cells.plan_cache import cache_of, making
from elman.compiler.pipeline import compile_cell
from elman.compiler.plan import Plan, Zoneout
from elman.errors import UnsupportedError

#: So often a step may change what it reads when it first runs, as one that fills a table does.
TRIES = 3
#: For so many contents a cell is compiled without a word.
MANY = 16


def plan_for(
    cell: Cell,
    weights: dict[str, Tensor],
    dtype: torch.dtype,
    masked: bool,
    zoneout: tuple[float | bool | None, ...],
    streamed: bool,
) -> Plan | UnsupportedError:
    """The plan of a cell for weights of these shapes and dtypes, or why there is none.

    dtype: of x and of the state.
    """
    cache = cache_of(cell)
    snapshot, table = cache.table(cell)
    if snapshot.reason:
        return UnsupportedError(snapshot.reason)
    idle = snapshot.idle
    shapes = tuple([(n, w.shape, w.dtype, w.layout) for n, w in weights.items() if n not in idle])
    key = (masked, zoneout, streamed, dtype, torch.get_default_dtype(), shapes)
    plan: Plan | UnsupportedError | None = table.get(key)
    if plan is not None:
        return plan
    with making:  # several threads may ask for it at once
        return _made(cell, key, lambda: _compiled(cell, weights, dtype, masked, zoneout, streamed))


def _made(
    cell: Cell, key: Hashable, make: Callable[[], Plan | UnsupportedError]
) -> Plan | UnsupportedError:
    cache = cache_of(cell)
    for _ in range(TRIES):
        snapshot, table = cache.table(cell)
        if snapshot.reason:
            return UnsupportedError(snapshot.reason)
        if key not in table:
            plan = make()
            after, table = cache.table(cell)
            if after.key != snapshot.key:
                tensor = after.probes.tensor_since(snapshot.probes)
                if tensor:
                    raise keeps(cell, tensor, "a tensor")
                continue
            table[key] = plan
            if len(cache.tables) == MANY:
                _tell(cell, cache.changed)
        found: Plan | UnsupportedError = table[key]
        return found
    raise keeps(cell, cache.changed or "what it reads")


def _tell(cell: Cell, changed: str) -> None:
    what = f"'{changed}'" if changed else "something"
    say_once(
        f"{type(cell).__name__} has been compiled {MANY} times, which takes time, as {what} that "
        "its step reads takes ever new values; make it a tensor, with register_buffer"
    )


def _compiled(
    cell: Cell, weights: dict[str, Tensor], dtype: torch.dtype, masked: bool,
    zoneout: tuple[float | bool | None, ...], streamed: bool,
) -> Plan | UnsupportedError:  # fmt: skip
    for name, weight in weights.items():
        if weight.layout is not torch.strided:
            return UnsupportedError(f"'{name}' is {weight.layout}, not dense")
    try:
        return compile_cell(
            cell, weights, dtype=dtype, masked=masked, zoneout=Zoneout(zoneout), streamed=streamed
        )
    except UnsupportedError as error:
        return UnsupportedError(str(error))  # without the frames, which hold the cell
