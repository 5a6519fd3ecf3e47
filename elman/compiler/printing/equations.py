"""Which values of a plan have names, and the lines that compute them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile

from elman.compiler.ir.nodes import LEAVES, Node, Step, Varies, walk
from elman.compiler.plan import Plan
from elman.compiler.printing.expressions import Writer

#: The column at which the shape of a value stands.
COLUMN = 60

Shape = Callable[[Node], str]


def given(nodes: Iterable[Node | None]) -> list[Node]:
    """Those that are there."""
    return [node for node in nodes if node is not None]


def noted(line: str, note: str) -> str:
    """A line with a note at its end."""
    return f"{line:{COLUMN}} # {note}".rstrip(" #")


# ------------------------------------------------------------------ names


def name_step(writer: Writer, step: Step, outputs: Sequence[Node]) -> None:
    """Name the leaves, the new state, and what the author of the cell has named."""
    leaves = [n for n in walk((step.x, *step.states, *outputs)) if n.op in LEAVES]
    for node in leaves:
        if node.op != "const":
            writer.name(node, node.attrs["name"])
    for state, node in zip(step.states, outputs, strict=True):
        if node not in writer.names and node.args:
            writer.name(node, f"{state.attrs['name']}'")
    for node, name in step.names.items():
        if node not in writer.names and node.args:
            writer.name(node, name.replace("[", "").replace("]", ""))  # parts[0] is parts0


def name_wholes(writer: Writer, nodes: Iterable[Node]) -> None:
    """What was split into x_r, x_z and x_n without a name of its own is x_rzn."""
    for whole, parts in _split(writer, nodes).items():
        names = [writer.names[part] for part in parts]
        prefix = common_prefix(names)
        if whole not in writer.names and prefix and prefix not in names:
            writer.name(whole, prefix + "".join(name.removeprefix(prefix) for name in names))


def name_entering(writer: Writer, plan: Plan) -> None:
    """What gates are made of beside the state is x_gates; else x_part."""
    nodes = list(walk(plan.outputs))
    for node in plan.entering:
        if node not in writer.names and node.args:
            made = _made_of(node, nodes, writer)
            writer.name(node, f"x_{made}" if made else "x_part")


def _made_of(node: Node, nodes: Sequence[Node], writer: Writer) -> str:
    """The name of the one value of the author's that this one is for; "" where there is none."""
    while True:
        users = [n for n in nodes if node in n.args]
        if len(users) != 1:
            return ""
        node = users[0]
        if node in writer.names:
            return "" if writer.names[node][-1] == "'" else writer.names[node]


def name_prepared(writer: Writer, plan: Plan) -> None:
    """The sum of bias_ih and bias_hh is bias."""
    for node in plan.prepared:
        if node not in writer.names:
            leaves = [n.attrs["name"] for n in walk([node]) if n.op == "weight"]
            writer.name(node, common_prefix(leaves).rstrip("_.") or "weight")


def common_prefix(words: Sequence[str]) -> str:
    """The letters that all words begin with."""
    letters = zip(*words, strict=False)
    return "".join(same[0] for same in takewhile(lambda some: len(set(some)) == 1, letters))


def _split(writer: Writer, nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    """Values by the named slices that they are split into, where these cover them evenly."""
    slices: dict[Node, list[Node]] = {}
    for node in nodes:
        if node.op == "slice" and node in writer.names:
            slices.setdefault(node.args[0], []).append(node)
    found = {}
    for whole, parts in slices.items():
        parts.sort(key=lambda n: n.attrs["start"])
        bounds = [n.attrs["start"] for n in parts]
        if bounds == [i * parts[0].size for i in range(whole.size // parts[0].size)]:
            found[whole] = parts
    return found


# ------------------------------------------------------------------ lines


def equations(
    writer: Writer, nodes: Sequence[Node], shape: Shape, arriving: Sequence[Node] = ()
) -> Iterator[str]:
    """One line a value; one line for all the parts that a value is split into.

    arriving: gradients that come in; what has the name of one adds to it.
    """
    split = _split(writer, nodes)
    for node in nodes:
        name, note = writer.names[node], shape(node)
        text = writer.expression(node)[0]
        sign = "="
        if node.op == "slice" and node.args[0] in split:
            parts = split[node.args[0]]
            if node is not next(n for n in nodes if n in parts):
                continue
            name, note = ", ".join(writer.names[n] for n in parts), f"{len(parts)} x {note}"
            text = writer.of(node.args[0])
        come = next((n for n in arriving if writer.names[n] == name and n is not node), None)
        if come is not None:
            terms = [(s, term) for s, term in writer.terms(node) if term is not come]
            sign, text = "+=", writer.joined(terms)
        yield noted(f"{name} {sign} {text}", f"{note} {node.line}".strip())


def aliases(writer: Writer, pairs: Iterable[tuple[str, Node | None]]) -> Iterator[str]:
    """Lines for the results that are called otherwise, or are nothing."""
    for name, node in pairs:
        value = "0" if node is None else writer.of(node)
        if name != value:
            yield f"{name} = {value}"


def weights_below(nodes: Iterable[Node]) -> list[Node]:
    """The weights that values are made of: leaves, and what torch makes of them."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop(0)
        if node in seen:
            continue
        seen.add(node)
        if node.varies is Varies.WEIGHT and node.op in ("weight", "call"):
            found.setdefault(node)
        else:
            stack.extend(node.args)
    return list(found)
