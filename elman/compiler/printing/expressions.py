"""Values of a step as text: expressions of named values, as one would write them on paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import count

from elman.compiler.ir.nodes import TRANSCENDENTAL, Node, walk
from elman.compiler.ir.weights import Slot, is_transposed

#: An unnamed value is written where it is used up to so many characters: once, or several times.
ONCE, AGAIN = 52, 12

SIGNS = {
    **{"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="},
    **{"and": "and", "or": "or"},
}
#: How tightly a form of expression binds.
LOGIC, COMPARISON, SUM, PRODUCT, POWER, ATOM = range(6)

Text = tuple[str, int]


class Writer:
    """Writes values in terms of those that have names, and names those that need one.

    uses: how often each value is used in all that is written.
    names: what each value is called; grows while lines are written.
    """

    def __init__(self, uses: Mapping[Node, int], names: dict[Node, str] | None = None) -> None:
        self.uses = uses
        self.names = names or {}
        self.taken = set(self.names.values())
        self._texts: dict[Node, Text] = {}

    def name(self, node: Node, wanted: str) -> str:
        """Call a value so, or nearly so where the name is taken."""
        name, number = wanted, 0
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}" if wanted[-1].isdigit() else f"{wanted}{number}"
        self.taken.add(name)
        self.names[node] = name
        self._texts.clear()
        return name

    def need(self, outputs: Iterable[Node], until: Iterable[Node], kind: str) -> list[Node]:
        """The values that get a line of their own, in an order in which they can be computed.

        Those with a name, and those too long to be written where they are used, which are called
        kind1, kind2, ...
        """
        outputs = list(outputs)
        lines, known = [], set(until)
        for node in walk(outputs, until=known):
            if node in known or not node.args:
                continue
            if node in self.names:
                lines.append(node)
            elif self._long(node):
                self.name(node, next(n for k in count(1) if (n := f"{kind}{k}") not in self.taken))
                lines.append(node)
        return lines

    def _long(self, node: Node) -> bool:
        if node.op in ("slice", "broadcast", "outer", "rowsum", "stop") or is_transposed(node):
            return False
        if node.op == "cat" and self.uses[node] < 2:
            return False
        if self.uses[node] < 2 or (_plain(node) and node.args[0] in self.names):
            return len(self.of(node)) > ONCE
        return node.op == "linear" or len(self.of(node)) > AGAIN

    def of(self, node: Node, tight: int = LOGIC) -> str:
        """A value where it is used: its name, or its expression."""
        if node in self.names:
            return self.names[node]
        if node not in self._texts:
            self._texts[node] = self.expression(node)
        text, binds = self._texts[node]
        return text if binds >= tight else f"({text})"

    def expression(self, node: Node) -> Text:
        """What a value is made of."""
        if node.op in ("add", "sub", "neg"):
            return self._sum(node)
        if node.op in ("mul", "div"):
            return self._product(node)
        if node.op in SIGNS:
            binds = COMPARISON if node.op in ("lt", "le", "gt", "ge", "eq", "ne") else LOGIC
            left, right = (self.of(arg, binds + 1) for arg in node.args)
            return f"{left} {SIGNS[node.op]} {right}", binds
        if node.op == "linear":
            v, W = node.args
            return f"{self.of(v, POWER)} @ {self._transposed(W)}", PRODUCT
        if node.op == "pow":
            return f"{self.of(node.args[0], ATOM)}^{self.of(node.args[1], ATOM)}", POWER
        return self._atom(node)

    def _atom(self, node: Node) -> Text:
        args = [self.of(arg) for arg in node.args]
        if node.op == "const":
            return number(node.attrs["value"]), ATOM
        if node.op in ("outer", "rowsum"):
            summed = " (x) ".join(self.of(arg, POWER) for arg in node.args)
            return f"sum over t, b of {summed}", SUM
        if node.op == "slice":
            start, stop = node.attrs["start"], node.attrs["stop"]
            return f"{self.of(node.args[0], ATOM)}[{start}:{stop}]", ATOM
        if node.op == "broadcast":
            return (args[0], ATOM) if node.args[0].op == "const" else (f"spread({args[0]})", ATOM)
        if is_transposed(node):
            return f"{self.of(node.args[0], ATOM)}.T", ATOM
        if node.op == "call":
            return self._call(node, args), ATOM
        word = {"amax": "max"}.get(node.op, node.op)
        return f"{word}({', '.join(args)})", ATOM

    def _call(self, node: Node, args: list[str]) -> str:
        def said(given: object) -> str:
            if isinstance(given, tuple):
                return f"[{', '.join(map(said, given))}]"
            return args[given.index] if isinstance(given, Slot) else str(given)

        name = node.attrs["func"].overloadpacket.__name__
        index = node.attrs["index"]
        words = [said(given) for given in node.attrs["args"]]
        if name == "slice" and words[1:2] in (["0"], ["1"]):
            start, stop = (*words[2:4], "", "")[:2]
            stop = "" if stop.isdigit() and int(stop) >= 1 << 62 else stop
            return f"{words[0]}[{':, ' if words[1] == '1' else ''}{start}:{stop}]"
        return f"{name}({', '.join(words)})" + ("" if index is None else f"[{index}]")

    def _transposed(self, W: Node) -> str:
        if is_transposed(W) and W not in self.names:
            return self.of(W.args[0], ATOM)
        return f"{self.of(W, ATOM)}.T"

    # -------------------------------------------------------------- sums and products

    def terms(self, node: Node, sign: int = 1, top: bool = True) -> list[tuple[int, Node]]:
        """A sum as its signed terms."""
        if not top and node in self.names:
            return [(sign, node)]
        if node.op == "neg":
            return self.terms(node.args[0], -sign, False)
        if node.op in ("add", "sub"):
            left, right = node.args
            other = sign if node.op == "add" else -sign
            return self.terms(left, sign, False) + self.terms(right, other, False)
        return [(sign, node)]

    def _sum(self, node: Node) -> Text:
        terms = self.terms(node)
        return self.joined(terms), PRODUCT if len(terms) == 1 else SUM

    def joined(self, terms: Iterable[tuple[int, Node]]) -> str:
        """Signed terms as one sum."""
        text = ""
        for sign, term in terms:
            word = self.of(term, PRODUCT)
            if word.startswith("-") and text:
                word, positive = word[1:], sign < 0
            else:
                positive = sign > 0
            plus, minus = (" + ", " - ") if text else ("", "-")
            text += (plus if positive else minus) + word
        return text

    def _product(self, node: Node) -> Text:
        factor, above, below = self._factors(node)
        factor, above = _means(factor, above, self.names)
        words = [] if abs(factor) == 1 and above else [number(abs(factor))]
        for part, power in Counter(above).items():
            words.append(self.of(part, POWER) if power == 1 else f"{self.of(part, ATOM)}^{power}")
        text = ("-" if factor < 0 else "") + " * ".join(words)
        for part in below:
            text += f" / {self.of(part, POWER)}"
        return text, PRODUCT if len(words) + len(below) > 1 or text.startswith("-") else POWER

    def _factors(self, node: Node, top: bool = True) -> tuple[float, list[Node], list[Node]]:
        """A product as a number, what stands above the line, and what below."""
        if node.op == "const":
            return node.attrs["value"], [], []
        if (node in self.names and not top) or node.op not in ("mul", "div"):
            return 1.0, [node], []
        a, above, below = self._factors(node.args[0], False)
        if node.op == "div":
            return a, above, [*below, node.args[1]]
        b, more, less = self._factors(node.args[1], False)
        return a * b, above + more, below + less


def _plain(node: Node) -> bool:
    """A function of one value: known by sight."""
    return node.op in TRANSCENDENTAL and len(node.args) == 1


def _means(factor: float, above: list[Node], names: Mapping[Node, str]) -> tuple[float, list[Node]]:
    """Sums over the last axis divided by its length, as the means that they are."""
    for part in above:
        if part.op == "sum" and part not in names and part.args[0].size > 1:
            scaled = factor * part.args[0].size
            if abs(scaled - round(scaled)) < 1e-9 and factor != 1:
                mean = Node("mean", part.args, part.shape, part.varies, part.attrs, part.line)
                return round(scaled), [mean if p is part else p for p in above]
    return factor, above


def number(value: float) -> str:
    """A number without digits that say nothing."""
    return str(int(value)) if abs(value) < 1e6 and value == int(value) else f"{value:.6g}"


def uses(*outputs: Node) -> Counter[Node]:
    """How often each value is used."""
    nodes = list(walk(outputs))
    return Counter(arg for node in nodes for arg in node.args) + Counter(outputs)


def sizes(input_size: int, states: Mapping[str, int]) -> tuple[str, Callable[[Node], str]]:
    """A legend, as "I = 3, H = 4", and the function that says the shape of a value by it."""
    widths = set(states.values())
    hidden = widths.pop() if len(widths) == 1 else None
    parts = (f"{name} [{size}]" for name, size in states.items())
    legend = f"I = {input_size}, " + (f"H = {hidden}" if hidden else ", ".join(parts))

    def said(size: int) -> str:
        if hidden and hidden > 1 and size % hidden == 0 and size // hidden <= 16:
            return "H" if size == hidden else f"{size // hidden}H"
        return "I" if size == input_size and size > 1 else str(size)

    return legend, lambda node: f"[{', '.join(map(said, node.shape))}]"
