"""A plan as a page that one can read: the step, its gradient, and what runs where.

The lines are those that run: the forward step is what the loop computes, the backward step what
the backward loop computes, after every simplification. ``x'`` is the new value of a part of the
state, ``d_x`` the gradient of the loss with respect to ``x``, and ``d (x) v`` an outer product.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from elman.compiler.ir.nodes import LEAVES, Node, Step, Varies, leaf, walk
from elman.compiler.passes.differentiate import differentiate
from elman.compiler.passes.simplify import simplify_beside
from elman.compiler.plan import Plan
from elman.compiler.printing.equations import (
    aliases,
    equations,
    given,
    name_entering,
    name_prepared,
    name_step,
    name_wholes,
    noted,
    weights_below,
)
from elman.compiler.printing.expressions import Writer, sizes, uses


@dataclass(frozen=True)
class Explanation:
    """What there is to say of a plan, in lines.

    sizes: the legend of the shapes. before, step, backward, after: the equations of each part.
    hoisted: what runs before the loop, and as what. in_loop: the products that stay, and why.
    saved, recomputed: what the backward loop reads, and what it computes again.
    numbers_per_row: how many numbers are saved for each step of each row of the batch.
    """

    cell: str
    sizes: str
    before: tuple[str, ...]
    step: tuple[str, ...]
    backward: tuple[str, ...]
    after: tuple[str, ...]
    hoisted: tuple[str, ...]
    in_loop: tuple[str, ...]
    saved: tuple[str, ...]
    recomputed: tuple[str, ...]
    numbers_per_row: int

    def text(self, backward: bool = True) -> str:
        """The whole page, or the part of it that inference runs."""
        parts = [
            ("before the loop, for all t at once", (*self.before, *self.hoisted)),
            ("step t", self.step),
            ("products that stay in the loop", self.in_loop),
        ]
        if backward:
            values = self.numbers_per_row
            kept = f"kept for the backward loop: {values} values per step and sequence"
            parts += [
                ("backward step t, from the last to the first", self.backward),
                ("after the loop, for all t at once", self.after),
                (kept, self.saved),
                ("computed again in the backward loop", self.recomputed),
            ]
        return "\n\n".join([f"{self.cell}    {self.sizes}", *(section(*part) for part in parts)])

    def __str__(self) -> str:
        return self.text()


def section(title: str, lines: Iterable[str]) -> str:
    """A title and the lines below it."""
    return "\n".join([title, *(f"  {line}" for line in tuple(lines) or ("nothing",))])


def explain(plan: Plan) -> Explanation:
    """What a plan does, in words and equations."""
    return _Page(plan).explanation()


def step_text(step: Step) -> str:
    """A step by itself: a line for each value with a name, or too long to have none."""
    writer = Writer(uses(*step.outputs))
    name_step(writer, step, step.outputs)
    _, shape = sizes(step.x.size, {s.attrs["name"]: s.size for s in step.states})
    lines = equations(writer, writer.need(step.outputs, (), "v"), shape)
    new = zip((f"{s.attrs['name']}'" for s in step.states), step.outputs, strict=True)
    return "\n".join([*lines, *aliases(writer, new)])


class _Page:
    """The sections of one plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.gradient = plan, plan.backward
        self.states = [state.attrs["name"] for state in plan.states]
        self.forward = set(walk((*plan.outputs, *plan.entering, *plan.prepared)))
        self.roots = given((*self.gradient.d_states, *self.gradient.stored))
        self.inside = set(walk(self.roots)) - self.forward
        self.writer = Writer(uses(*plan.outputs, *plan.entering, *self.roots, *self.gradient.after))
        sized = {s.attrs["name"]: s.size for s in plan.states}
        self.legend, self.shape = sizes(plan.step.x.size, sized)
        name_step(self.writer, plan.step, plan.outputs)
        name_wholes(self.writer, walk(plan.outputs))
        name_entering(self.writer, plan)
        name_prepared(self.writer, plan)

    def explanation(self) -> Explanation:
        # In this order: each section names what the later ones speak of.
        before, step, in_loop = self._before(), self._step(), tuple(self._in_loop())
        self._name_gradients()
        return Explanation(
            cell=self.plan.step.cell,
            sizes=self.legend,
            before=before,
            step=step,
            backward=self._backward(),
            after=tuple(self._after()),
            hoisted=tuple(self._hoisted()),
            in_loop=in_loop,
            saved=tuple(self._shaped(self.plan.kept)),
            recomputed=tuple(self._shaped(self._recomputed())),
            numbers_per_row=self.plan.bytes_per_row(1),
        )

    def _shaped(self, nodes: Iterable[Node]) -> Iterable[str]:
        return (noted(self.writer.of(node), self.shape(node)) for node in nodes)

    # -------------------------------------------------------------- names of gradients

    def _name_gradients(self) -> None:
        """A gradient is called after what it is the gradient of."""
        writer, plan, gradient = self.writer, self.plan, self.gradient
        for node, state in zip(gradient.cotangents, self.states, strict=True):
            writer.name(node, f"d_{state}'")
        values = [n for n in walk(plan.outputs) if n in writer.names and n.args and n.is_row]
        values.sort(key=lambda n: -n.varies)
        for node, d in zip(values, self._gradients(values), strict=True):
            if d is not None and self._is_new(d):
                if node in plan.outputs:
                    self._name_total(node, d)
                else:
                    writer.name(d, f"d_{writer.names[node]}")
        for name, d in (*self._d_states(), *self._d_inputs()):
            if d is not None and self._is_new(d):
                writer.name(d, name)

    def _is_new(self, d: Node) -> bool:
        return d in self.inside and d not in self.writer.names and bool(d.args)

    def _gradients(self, values: Sequence[Node]) -> list[Node | None]:
        """The gradient of each value, as the node that the backward loop computes, if it does."""
        outputs = self.plan.outputs
        alone = [differentiate(outputs, self.gradient.cotangents, (n,))[0] for n in values]
        same = iter(simplify_beside(given(alone), (*outputs, *self.roots)))
        return [None if d is None else next(same) for d in alone]

    def _name_total(self, node: Node, d: Node) -> None:
        """What comes in as d_c', and what it becomes once the step has used c' itself."""
        come = self.gradient.cotangents[self.plan.outputs.index(node)]
        terms = [term for _, term in self.writer.terms(d)]
        if terms.count(come) == 1 and self.writer.uses[come] == 1:
            self.writer.names[d] = self.writer.names[come]
        else:
            self.writer.name(d, f"{self.writer.names[come]}_total")

    def _d_states(self) -> list[tuple[str, Node | None]]:
        return [(f"d_{n}", d) for n, d in zip(self.states, self.gradient.d_states, strict=True)]

    def _d_inputs(self) -> list[tuple[str, Node]]:
        pairs = zip(self.plan.inputs, self.gradient.d_inputs, strict=True)
        return [(f"d_{self._input(node)}", d) for node, d in pairs if d is not None]

    def _input(self, node: Node) -> str:
        part = node.op == "x" and len(self.plan.inputs) > 1
        return f"{self.writer.of(node)}_loop" if part else self.writer.of(node)

    # -------------------------------------------------------------- equations

    def _before(self) -> tuple[str, ...]:
        nodes = self.writer.need((*self.plan.prepared, *self.plan.entering), (), "w")
        return tuple(equations(self.writer, nodes, self.shape))

    def _step(self) -> tuple[str, ...]:
        known = (*self.plan.rows, *self.plan.prepared)
        nodes = self.writer.need(self.plan.outputs, known, "v")
        new = zip((f"{name}'" for name in self.states), self.plan.outputs, strict=True)
        return (*equations(self.writer, nodes, self.shape), *aliases(self.writer, new))

    def _backward(self) -> tuple[str, ...]:
        known = [node for node in self.forward if node in self.writer.names]
        nodes = self.writer.need(self.roots, known, "d")
        lines = equations(self.writer, nodes, self.shape, self.gradient.cotangents)
        return (*lines, *aliases(self.writer, self._d_states()))

    def _after(self) -> Iterable[str]:
        """The gradients of all steps at once: of the inputs of the loop, then of its weights."""
        pairs = zip(self.plan.prepared, self.gradient.d_prepared, strict=True)
        weights = [(f"d_{self.writer.of(node)}", d) for node, d in pairs if d is not None]
        yield from self._shown([*self._d_inputs(), *weights], self.writer)
        below: list[Node] = []
        if not self.plan.fused:
            below = weights_below(self.plan.entering)
            yield from self._through_hoisted([self.plan.step.x, *below])
        yield from self._through_weights([*self.plan.prepared, *below])

    def _shown(self, pairs: Iterable[tuple[str, Node]], writer: Writer) -> Iterable[str]:
        for name, d in pairs:
            if name != writer.of(d):
                yield noted(f"{name} = {writer.of(d)}", self.shape(d))

    def _through_hoisted(self, wrt: Sequence[Node]) -> Iterable[str]:
        """The gradients of what ran before the loop: in full where they are short."""
        inputs = zip(self.plan.inputs, self.gradient.d_inputs, strict=True)
        pairs = [(n, leaf("cotangent", "", n.size)) for n, d in inputs if d is not None]
        found = differentiate([n for n, _ in pairs], [d for _, d in pairs], wrt)
        writer = Writer(uses(*given(found)), dict(self.writer.names))
        writer.names.update({d: f"d_{self._input(n)}" for n, d in pairs})
        named = [(f"d_{writer.of(n)}", d) for n, d in zip(wrt, found, strict=True) if d is not None]
        if writer.need([d for _, d in named], writer.names, "d"):
            yield f"{', '.join(n for n, _ in named)}: by torch, through what ran before the loop"
        else:
            yield from self._shown(named, writer)

    def _through_weights(self, weights: Iterable[Node]) -> Iterable[str]:
        """What torch makes of the gradients of weights that it has made of others."""
        made = [n for n in dict.fromkeys(weights) if n.op != "weight"]
        sources: dict[str, list[str]] = {}
        for node in dict.fromkeys(n for n in walk(made) if n.op == "weight"):
            parts = [f"d_{self.writer.of(n)}" for n in made if node in set(walk([n]))]
            sources.setdefault(", ".join(parts), []).append(f"d_{self.writer.of(node)}")
        for parts_, names in sources.items():
            yield f"{', '.join(names)}: by torch, from {parts_}"

    # -------------------------------------------------------------- what runs where

    def _hoisted(self) -> Iterable[str]:
        users: dict[Node, list[str]] = {}
        for node in self.plan.entering:
            for product in (n for n in walk([node]) if n.op == "linear"):
                users.setdefault(product, []).append(self.writer.of(node))
        for product, names in users.items():
            rows, columns = self.shape(product.args[1])[1:-1].split(", ")
            columns = "I" if product.args[0] is self.plan.step.x else columns
            yield f"{', '.join(names)}: one product [T*B, {columns}] @ [{columns}, {rows}]"

    def _in_loop(self) -> Iterable[str]:
        for node in walk(self.plan.outputs):
            if node.op == "linear" and node.varies is Varies.STATE:
                line = f"{self.writer.expression(node)[0]}: waits for {self._waits(node)}"
                yield noted(line, node.line)

    def _waits(self, node: Node) -> str:
        inside = list(walk([node.args[0]]))
        parts = [f"{s.attrs['name']}" for s in self.plan.states if s in inside]
        text = f"{' and '.join(parts)} of step t-1" if parts else "the dropout mask"
        through = [n for n in inside if n.op == "linear" and n.varies is Varies.STATE]
        last = through[-1:]
        return ", and for ".join([text, *(self.writer.expression(n)[0] for n in last)])

    def _recomputed(self) -> Iterable[Node]:
        plan = self.plan
        there = {*plan.states, *plan.outputs, *plan.saved, *plan.rows, *plan.inputs, *plan.prepared}
        again = [n for n in walk(self.roots, until=there) if n in self.forward - there and n.is_row]
        inner = {arg for node in again for arg in node.args}
        plain = (*LEAVES, "slice", "broadcast", "stop")
        return [n for n in again if n not in inner and n.op not in plain]
