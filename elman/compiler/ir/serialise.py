"""A plan as text, and back: what a saved graph holds of a cell.

    elman-plan VERSION SHA256 {"cell": ..., "nodes": [...], ...}

The text holds the simplified step and how it is zoned out and streamed, from which `make_plan`
makes the same plan anywhere. It is data: reading it looks up operations by name in closed lists
and runs none of them on numbers. Equal plans have equal texts. Not in it: where in which file a
value was written, and what the author called it.

    nodes    [operation, arguments, shape, attributes], arguments first, by their place in the list
    weights  have a dtype among their attributes: operands of a saved graph are checked against it
    calls    name a functional operation of aten: no writing, no randomness, no strings
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import torch

from elman.compiler.ir.interpret import evaluate
from elman.compiler.ir.nodes import LEAVES, OPS, DType, Node, Step, Varies, walk
from elman.compiler.ir.plain import functional_overload, plain_from, plain_of
from elman.compiler.ir.verify import verify
from elman.compiler.plan import Plan, Zoneout, make_plan
from elman.compiler.trace.untraced import untraced
from elman.errors import SavedPlanError

NAME, VERSION = "elman-plan", 1

#: Operations of a step: those of the language, but for what only gradients have.
OPERATIONS = OPS - {"cotangent", "outer", "rowsum"}
#: The attributes of an operation and their types.
ATTRIBUTES: dict[str, dict[str, Any]] = {
    **{leaf: {"name": str} for leaf in ("x", "state", "mask")},
    "weight": {"name": str, "dtype": torch.dtype},
    "const": {"value": float},
    "slice": {"start": int, "stop": int},
    "broadcast": {"size": int},
    "call": {"func": str, "args": tuple, "kwargs": tuple, "index": (int, type(None))},
}
#: No axis of a step is as long as this.
LONGEST = 2**31


def plan_text(plan: Plan, dtypes: Mapping[str, torch.dtype]) -> str:
    """The text of a plan. dtypes: of the weights that it reads, by name.

    Raises SavedPlanError where a weight goes through an operation that no text may name.
    """
    step = plan.step
    roots = [step.x, *step.states, *([] if step.mask is None else [step.mask]), *step.outputs]
    order = list(walk(roots))
    place = {node: index for index, node in enumerate(order)}
    fields = {
        "cell": step.cell,
        "nodes": [_written(node, place, dtypes) for node in order],
        "x": place[step.x],
        "states": [place[node] for node in step.states],
        "mask": None if step.mask is None else place[step.mask],
        "outputs": [place[node] for node in step.outputs],
        "zoneout": list(plan.zoneout.parts),
        "streamed": plan.streamed,
    }
    body = json.dumps(fields, separators=(",", ":"), sort_keys=True, allow_nan=False)
    text = f"{NAME} {VERSION} {_digest(body)} {body}"
    read_plan(text)  # what cannot be read again is not written
    return text


def read_plan(text: str) -> Plan:
    """The plan of a text. Raises SavedPlanError where it is damaged, of another version, or names
    what is no operation of a plan."""
    body = _body(text)
    try:
        plan = _plan(json.loads(body))
        backward = plan.backward
        verify(plan.outputs)
        verify([d for d in (*backward.d_states, *backward.stored) if d is not None])
    except SavedPlanError:
        raise
    except Exception as error:  # whatever a text that is no plan may lead to
        said = f"{type(error).__name__}: {error}"
        raise SavedPlanError(f"a saved plan makes no sense ({said})") from error
    return plan


def _digest(body: str) -> str:
    return sha256(body.encode()).hexdigest()


def _body(text: str) -> str:
    name, _, rest = text.partition(" ")
    version, _, rest = rest.partition(" ")
    digest, _, body = rest.partition(" ")
    if name != NAME:
        raise SavedPlanError(f"a saved plan begins with '{NAME}', this text with {name[:20]!r}")
    if version != str(VERSION):
        raise SavedPlanError(
            f"a saved plan of version {version[:20]!r}; this elman reads version {VERSION}: save "
            "the graph again with this elman, or load it with the one that saved it"
        )
    if digest != _digest(body):
        raise SavedPlanError("a saved plan is damaged: its checksum differs; save the graph again")
    return body


# ---------------------------------------------------------------- nodes


def _written(node: Node, place: Mapping[Node, int], dtypes: Mapping[str, torch.dtype]) -> list[Any]:
    attrs = dict(node.attrs)
    if node.op == "weight":
        attrs["dtype"] = dtypes[node.attrs["name"]]
    if node.op == "call":
        attrs["func"] = str(node.attrs["func"])
    written = {name: plain_of(value) for name, value in attrs.items()}
    return [node.op, [place[arg] for arg in node.args], list(node.shape), written]


def _plan(fields: dict[str, Any]) -> Plan:
    nodes: list[Node] = []
    for entry in fields["nodes"]:
        nodes.append(_read(entry, nodes))
    x = _leaf(nodes, fields["x"], "x")
    states = tuple([_leaf(nodes, index, "state") for index in fields["states"]])
    mask = None if fields["mask"] is None else _leaf(nodes, fields["mask"], "mask")
    outputs = tuple([_at(nodes, index) for index in fields["outputs"]])
    _require(len(states) > 0, "a state")
    _require([s.shape for s in states] == [o.shape for o in outputs], "the sizes of the state")
    _check_leaves(nodes, {x, *states, mask})
    step = Step(_of(fields["cell"], str), x, states, mask, outputs)
    verify(nodes)
    _check_calls(nodes)
    zoneout = Zoneout(tuple([_rate(part) for part in fields["zoneout"]]))
    _require(len(zoneout.parts) in (0, len(states)), "a zoneout for each part of the state")
    return make_plan(step, zoneout, _of(fields["streamed"], bool))


def _read(entry: list[Any], nodes: list[Node]) -> Node:
    op, places, shape, written = entry
    if op not in OPERATIONS:
        raise SavedPlanError(
            f"a saved plan has an operation that this elman does not know: {str(op)[:40]!r}"
        )
    args = tuple([_at(nodes, index) for index in places])
    sizes = tuple([_of(size, int) for size in shape])
    _require(all(0 <= size < LONGEST for size in sizes), f"sizes, got {sizes}")
    types = ATTRIBUTES.get(op, {})
    _require(written.keys() == types.keys(), f"for {op} the attributes {[*types]}")
    attrs = {name: _of(plain_from(written[name]), kind) for name, kind in types.items()}
    if op == "call":
        attrs["func"] = functional_overload(attrs["func"])
    return Node(op, args, sizes, _varies(op, args), attrs)


def _varies(op: str, args: tuple[Node, ...]) -> Varies:
    if op in LEAVES:
        return {"x": Varies.INPUT, "state": Varies.STATE, "mask": Varies.STATE}.get(
            op, Varies.WEIGHT
        )
    return max((arg.varies for arg in args), default=Varies.WEIGHT)


def _check_leaves(nodes: list[Node], known: set[Node | None]) -> None:
    leaves = [node for node in nodes if node.op in ("x", "state", "mask")]
    _require({*leaves} == known - {None}, "no further inputs")
    weights = [node.attrs["name"] for node in nodes if node.op == "weight"]
    states = [node.attrs["name"] for node in leaves if node.op == "state"]
    for names in (weights, states):
        _require(len({*names}) == len(names), f"different names, got {names}")


def _check_calls(nodes: list[Node]) -> None:
    """Run the calls on tensors without numbers and compare their shapes: `verify` cannot."""
    weights = [node for node in nodes if not node.is_row and node.op != "const"]
    calls = [node for node in weights if node.op == "call"]
    dtypes = [node.attrs["dtype"] for node in weights if node.op == "weight"]
    common = next((dtype for dtype in dtypes if dtype.is_floating_point), torch.float32)
    with untraced():
        values = {
            node: torch.empty(node.shape, dtype=_dtype(node, common), device="meta")
            for node in weights
            if node.op != "call"
        }
        found = evaluate(calls, values)
    for node, value in zip(calls, found, strict=True):
        fits = isinstance(value, torch.Tensor) and tuple(value.shape) == node.shape
        _require(fits, f"for {node!r} another shape")


def _dtype(node: Node, common: torch.dtype) -> torch.dtype:
    found: torch.dtype = node.attrs.get("dtype", torch.bool if node.dtype is DType.BOOL else common)
    return found


def _rate(part: Any) -> float | bool | None:
    if part is None or part is True:
        return part
    _require(type(part) in (int, float) and 0 <= part < 1, f"a rate in [0, 1), got {part!r}")
    return float(part)


def _leaf(nodes: list[Node], index: Any, op: str) -> Node:
    node = _at(nodes, index)
    _require(node.op == op, f"{op}, got {node.op}")
    return node


def _at(nodes: list[Node], index: Any) -> Node:
    _require(type(index) is int and 0 <= index < len(nodes), f"one of {len(nodes)}, got {index!r}")
    return nodes[index]


def _of(value: Any, kind: Any) -> Any:
    fits = isinstance(value, kind) and (kind is bool or kind is object or type(value) is not bool)
    _require(fits, f"{kind}, got {value!r:.40}")
    return value


def _require(holds: bool, expected: str) -> None:
    if not holds:
        raise SavedPlanError(f"a saved plan makes no sense: expected {expected}")
