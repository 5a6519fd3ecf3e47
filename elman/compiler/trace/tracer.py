"""From the step of a cell to its expression: run it once and write down what torch is asked."""

from __future__ import annotations

from itertools import count, zip_longest

import torch
from torch import Tensor

from elman.cells.cell import Cell, bind, dtype_of, weights_of
from elman.cells.checking import attributes, require_pure, set_since, step_line
from elman.cells.hooks import is_hooked, step_of
from elman.compiler.ir.nodes import Node, Step, leaf, walk, weight
from elman.compiler.trace.recorder import Recorder
from elman.compiler.trace.source import Source
from elman.errors import PurityError, UnsupportedError

#: From here on the two numbers of rows are looked for that a step is traced on.
FEW_AND_MORE = (5, 65)


def trace(
    cell: Cell,
    weights: dict[str, Tensor] | None = None,
    *,
    masked: bool = False,
    dtype: torch.dtype | None = None,
) -> Step:
    """The step of a cell, as torch computes it.

    The step runs on a few rows, with zeros for all numbers; its torch operations become nodes,
    those on weights alone become calls. It runs twice, on two numbers of rows: what it computes
    depends on neither. The leaves: "x", the parts of the state, "mask"
    where ``masked`` (the state dropout), and the weights by name.

    weights: tensors of the shapes and dtypes to trace with, as `weights_of` names them; None:
        the cell's own. dtype: of x and of the state; None: that of the weights.

    Raises UnsupportedError, with the line in the cell, for what cannot be compiled, and
    PurityError where the number of rows counts.
    """
    weights = weights_of(cell) if weights is None else weights
    zeros = {
        name: torch.zeros(value.shape, dtype=value.dtype, device="cpu")
        for name, value in weights.items()
    }
    kind = dtype or dtype_of(zeros.values())
    few, more = _rows(cell, zeros)
    (step, branch), (again, _) = (_traced(cell, zeros, rows, masked, kind) for rows in (few, more))
    at = _difference(step, again)
    if at is not None:
        third, _ = _traced(cell, zeros, few, masked, kind)
        stateful = _difference(step, third) is not None
        raise _changing(cell, at) if stateful else _by_rows(cell, at)
    if branch:
        raise UnsupportedError(
            f"{branch} {type(cell).__name__}.step compares the number of rows with another, or "
            "takes len() of it: for more rows it may be another step; use x.shape[0], and only to "
            "make tensors of as many rows"
        )
    return step


def _traced(
    cell: Cell, weights: dict[str, Tensor], rows: int, masked: bool, dtype: torch.dtype
) -> tuple[Step, str]:
    """The step of a cell with these weights, from one run on this many rows; and where it compares
    this number with another."""
    bound = bind(cell, weights)
    source = Source(bound)
    recorder = Recorder(source, rows, dtype)
    for name, value in weights.items():
        recorder.enter(weight(name, value.shape), value)

    def enter(op: str, name: str, size: int) -> tuple[Node, Tensor]:
        node, value = leaf(op, name, size), torch.zeros(rows, size, dtype=dtype, device="cpu")
        return node, recorder.enter(node, value)

    x = enter("x", "x", bound.input_size)
    states = [enter("state", name, size) for name, size in bound.state_sizes.items()]
    mask = enter("mask", "mask", bound.output_size) if masked else None
    bound.__dict__["state_mask"] = mask and mask[1]
    before = attributes(bound)
    new = recorder.run(lambda: step_of(bound)(x[1], *(value for _, value in states)))
    if set_since(before, attributes(bound)) and not is_hooked(cell):  # hooks may set what they like
        require_pure(cell)
    outputs = recorder.outputs(new, list(bound.state_sizes.items()))
    nodes = tuple(node for node, _ in states)
    names = recorder.names({x[0], *nodes})
    return Step(source.cell, x[0], nodes, mask and mask[0], outputs, names), recorder.branch


def _difference(one: Step, other: Step) -> str | None:
    """The line of the first value that two traces do not make alike; None where all are."""
    same: dict[Node, Node] = {}
    for a, b in zip_longest(walk(one.outputs), walk(other.outputs)):
        if a is None or b is None or _content(a) != _content(b):
            return _line(one, a) if a is not None else ""
        if [same[arg] for arg in a.args] != list(b.args):
            return a.line
        same[a] = b
    return None if [same[a] for a in one.outputs] == list(other.outputs) else ""


def _line(step: Step, node: Node) -> str:
    """Where a value is made; a number: where it is used."""
    users = (user for user in walk(step.outputs) if user is node or node in user.args)
    return next((user.line for user in users if user.line), "")


def _content(node: Node) -> tuple[str, tuple[int, ...], str]:
    return node.op, node.shape, repr(sorted(node.attrs.items()))


def _by_rows(cell: Cell, line: str) -> PurityError:
    return PurityError(
        f"{line or step_line(cell)} {type(cell).__name__}.step depends on the number of rows of x, "
        "but each row is a sequence of its own: use the sizes of the last axis alone"
    )


def _changing(cell: Cell, line: str) -> UnsupportedError:
    return UnsupportedError(
        f"{line or step_line(cell)} {type(cell).__name__}.step computes something else each time "
        "it runs"
    )


def _rows(cell: Cell, weights: dict[str, Tensor]) -> tuple[int, int]:
    """Two numbers of rows that no axis of a weight has, so that the axis of rows is known by it."""
    sizes = {size for w in weights.values() for size in w.shape}
    sizes |= {cell.input_size, *cell.state_sizes.values()}
    few, more = ((n for n in count(start, 2) if n not in sizes) for start in FEW_AND_MORE)
    return next(few), next(more)
