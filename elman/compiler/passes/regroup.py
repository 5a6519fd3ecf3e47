"""What is known before the loop stands together: sums and products by what they depend on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby

from elman.compiler.ir.build import Build
from elman.compiler.ir.nodes import Node, Varies, cat, const, linear, rebuild, take, walk
from elman.compiler.ir.weights import columns, stacked

#: A term of a sum and its sign.
Term = tuple[int, Node]


def split_products(outputs: Sequence[Node]) -> dict[Node, Node]:
    """[x, h] W^T = x W_x^T + h W_h^T: the part that depends on x alone can leave the loop."""
    made: dict[Node, Node] = {}
    for node in walk(outputs):
        new = rebuild(node, tuple(made[arg] for arg in node.args))
        if new.op == "linear" and len({p.varies for p in _parts(new.args[0])}) > 1:
            new = _split(new)
        made[node] = new
    return made


def _parts(v: Node) -> tuple[Node, ...]:
    return v.args if v.op == "cat" else (v,)


def _split(product: Node) -> Node:
    v, W = product.args
    b, at, terms = Build(product.line), 0, []
    for _, group in groupby(_parts(v), key=lambda part: part.varies):
        part = b.cat(list(group))
        terms.append((1, linear(part, columns(W, at, at + part.size, product.line), product.line)))
        at += part.size
    return _sum(b, terms)


def regroup_sums(outputs: Sequence[Node]) -> dict[Node, Node]:
    """Weights are added to weights, inputs to inputs, and the state comes last.

    (W x + b) + (U h + c)  ->  U h + (W x + (b + c)): one value for all t, known before the loop.
    A sum that this would not shorten in the loop stays in the order of its author.
    """
    uses = _uses(outputs)
    inner = {
        arg
        for node in walk(outputs)
        if _is_sum(node)
        for arg in node.args
        if _is_sum(arg) and uses[arg] == 1 and arg.shape == node.shape
    }
    made: dict[Node, Node] = {}
    for node in walk(outputs):
        new = rebuild(node, tuple(made[arg] for arg in node.args))
        if _is_sum(node) and node not in inner:
            terms = [(sign, made[term]) for sign, term in _terms(node, inner)]
            new = _regrouped(new, terms)
        made[node] = new
    return made


def _is_sum(node: Node) -> bool:
    return node.op in ("add", "sub") and node.is_row


def _uses(outputs: Sequence[Node]) -> Counter[Node]:
    uses = Counter(outputs)
    for node in walk(outputs):
        uses.update(node.args)
    return uses


def _terms(node: Node, inner: set[Node], sign: int = 1) -> list[Term]:
    terms: list[Term] = []
    for arg, s in zip(node.args, (sign, sign if node.op == "add" else -sign), strict=True):
        terms += _terms(arg, inner, s) if arg in inner else [(s, arg)]
    return terms


def _regrouped(node: Node, terms: list[Term]) -> Node:
    of = {kind: [t for t in terms if t[1].varies is kind] for kind in Varies}
    own = of.pop(node.varies)
    if sum(map(len, of.values())) < 2:
        return node
    b = Build(node.line)
    known: list[Term] = []
    for kind in (Varies.WEIGHT, Varies.INPUT):
        if of.get(kind):
            known = [_signed(b, [*of[kind], *known])]
    first = [t for t in own if t[1].op == "linear"]
    rest = [t for t in own if t[1].op != "linear"]
    ordered = [*first, *known, *rest] if first else [*rest, *known]
    new = _sum(b, ordered)
    return new if new.size == node.size else b.broadcast(new, node.size)


def _signed(b: Build, terms: list[Term]) -> Term:
    if all(sign < 0 for sign, _ in terms):
        return -1, _sum(b, [(1, term) for _, term in terms])
    return 1, _sum(b, terms)


def _sum(b: Build, terms: list[Term]) -> Node:
    start = next((k for k, (sign, _) in enumerate(terms) if sign > 0), None)
    if start is None:
        return b("neg", _sum(b, [(1, term) for _, term in terms]))
    total = terms[start][1]
    for sign, term in (*terms[:start], *terms[start + 1 :]):
        total = b("add" if sign > 0 else "sub", total, term)
    return total


def merge_products(outputs: Sequence[Node]) -> dict[Node, Node]:
    """W_1 x + b_1, W_2 x + b_2, ...: the parts of one product, [W_1; W_2; ...] x + [b_1, b_2, ...].

    Where x is known before the loop: a cell with one matrix a gate costs what a stacked one does.
    """
    made = {node: node for node in walk(outputs)}
    while True:
        current = [made[node] for node in outputs]
        replaced = _merged(current)
        if not replaced:
            return made
        step = _replace(current, replaced)
        made = {old: step.get(new, new) for old, new in made.items()}


def _merged(outputs: Sequence[Node]) -> dict[Node, Node]:
    """What takes the place of the first products of one vector with several matrices."""
    by_vector: dict[Node, list[Node]] = defaultdict(list)
    for node in walk(outputs):
        if node.op == "linear" and node.varies is Varies.INPUT:
            by_vector[node.args[0]].append(node)
    products = next((p for p in by_vector.values() if len(p) > 1), None)
    return {} if products is None else _stack(outputs, products)


def _stack(outputs: Sequence[Node], products: list[Node]) -> dict[Node, Node]:
    biased = [_biased(outputs, product) for product in products]
    b = Build(products[0].line)
    weights = stacked([p.args[1] for p in products], b.line)
    whole = linear(products[0].args[0], weights, b.line)
    if any(bias is not None for _, bias in biased):
        biases = [
            b.broadcast(const(0.0) if bias is None else bias, product.size)
            for product, (_, bias) in zip(products, biased, strict=True)
        ]
        whole = b("add", whole, cat(biases, whole.line))
    replaced, at = {}, 0
    for product, (form, _) in zip(products, biased, strict=True):
        replaced[form] = take(whole, at, at + product.size, form.line)
        at += product.size
    return replaced


def _biased(outputs: Sequence[Node], product: Node) -> tuple[Node, Node | None]:
    """A product with the weight that is added to it, where nothing else uses the product."""
    users = [node for node in walk(outputs) if product in node.args]
    if len(users) == 1 and users[0].op == "add" and product not in outputs:
        x, y = users[0].args
        other = y if x is product else x
        if not other.is_row and users[0].shape == product.shape:
            return users[0], other
    return product, None


def _replace(outputs: Sequence[Node], replaced: Mapping[Node, Node]) -> dict[Node, Node]:
    made: dict[Node, Node] = dict(replaced)
    for node in walk(outputs):
        if node not in made:
            made[node] = rebuild(node, tuple(made[arg] for arg in node.args))
    return made
