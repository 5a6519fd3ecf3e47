"""Random cells: a step of a few random lines, as data, as Python source, and as a class."""

from __future__ import annotations

import hashlib
import linecache
import sys
from functools import lru_cache
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

from elman.cells.cell import Cell
from elman.testing.fuzz.templates import (
    BINARY,
    BOUNDED,
    CHOICES,
    DROPPED,
    MEMBERS,
    PARTS,
    PRODUCTS,
    TEMPLATES,
    TIED,
    TO_ONE,
    UNARY,
    Template,
)

SIZES = (1, 2, 3, 5, 8, 17)
NAMES = ("h", "c", "m")


class Line(NamedTuple):
    """One line: a template's name, the values that it reads, its size, its numbers.

    Values are numbered: 0 is x, then come the parts of the state, then the lines.
    """

    name: str
    args: tuple[int, ...]
    size: int
    extra: tuple[int, ...] = ()

    @property
    def template(self) -> Template:
        return TEMPLATES[self.name]


class Drawn(NamedTuple):
    """A random cell. news: which values are the parts of the new state."""

    input_size: int
    state: tuple[int, ...]
    lines: tuple[Line, ...]
    news: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"Drawn{hashlib.sha256(repr(self).encode()).hexdigest()[:10]}"

    @property
    def sizes(self) -> list[int]:
        """Of all values, in order."""
        return [self.input_size, *self.state, *(line.size for line in self.lines)]

    @property
    def drops(self) -> bool:
        """Whether a state dropout reaches it."""
        return any(line.name == "dropped" for line in self.lines)

    def build(self) -> Cell:
        """One, with whatever numbers."""
        made: Any = class_of(self)
        cell: Cell = made()
        return cell

    def source(self) -> str:
        """The class, as one would write it."""
        states = NAMES[: len(self.state)]
        value = ["x", *states, *(f"v{i}" for i in range(len(self.lines)))]
        given = ", ".join(f"{n}={s}" for n, s in zip(states, self.state, strict=True))
        made = [f"super().__init__({self.input_size}, {given})"]
        steps = []
        sizes, first = self.sizes, 1 + len(self.state)
        for number, line in enumerate(self.lines):
            numbers = {f"e{i}": extra for i, extra in enumerate(line.extra)}
            numbers |= {f"s{i}": sizes[arg] for i, arg in enumerate(line.args)}
            names = {"m": f"w{number}", "k": f"w{line.extra[0] if line.extra else 0}"}
            args = [value[arg] for arg in line.args]
            steps.append(
                f"v{number} = {line.template.text.format(*args, n=line.size, **numbers, **names)}"
            )
            if line.template.member:
                text = line.template.member.format(n=line.size, **numbers, **names)
                made.append(_member(text, names["m"]))
        assert first + len(self.lines) == len(value)
        new = ", ".join(value[i] for i in self.news)
        inner = "\n        "
        return (
            f"class {self.name}(elman.Cell):\n"
            f"    def __init__(self):\n        {inner.join(made)}\n\n"
            f"    def step(self, x, {', '.join(states)}):\n        {inner.join(steps)}"
            f"\n        return {new}\n"
        ).replace(f":\n        {inner}", ":\n        ")


def _member(text: str, name: str) -> str:
    kind, _, rest = text.partition(" ")
    if kind == "buffer":
        return f'self.register_buffer("{name}", {rest})'
    if kind == "number":
        name, _, rest = rest.partition(" ")
        return f"self.{name} = {rest}"
    return f"self.{name} = {text}"


HEAD = """import elman
import torch
import torch.nn.functional as F
from elman.testing.fuzz.cells import Settings
from torch import nn

"""


class Settings:
    """An object of one's own on a cell."""

    def __init__(self, act: str) -> None:
        self.act = act


@lru_cache(maxsize=4096)
def class_of(drawn: Drawn) -> type[Cell]:
    """The class that the source makes: in a module of its own, so that it can be pickled."""
    name = f"elman_{drawn.name.lower()}"
    text = HEAD + "\n" + drawn.source()
    module = ModuleType(name)
    module.__file__ = f"{name}.py"
    linecache.cache[module.__file__] = len(text), None, text.splitlines(True), module.__file__
    sys.modules[name] = module
    exec(compile(text, module.__file__, "exec"), vars(module))
    made: type[Cell] = vars(module)[drawn.name]
    return made


def fill(module: nn.Module, seed: int) -> nn.Module:
    """The module with random numbers under which a state neither dies nor explodes; all of them
    are numbers of float32."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            scale = min(0.5, p.shape[-1] ** -0.5) if p.dim() > 1 else 0.3
            p.copy_((torch.randn(p.shape, generator=draw, dtype=torch.float64) * scale).float())
        for b in module.buffers():
            if b.is_floating_point():
                b.copy_((torch.randn(b.shape, generator=draw, dtype=torch.float64) * 0.5).float())
            else:
                b.copy_(torch.randint(0, 2, b.shape, generator=draw))
    return module


# ------------------------------------------------------------------ drawing


def random_cell(draw: Random, smooth: bool = False) -> Drawn:
    """A cell of 2 to 10 lines, each of which reads any value before it.

    smooth: none of them jumps.
    """
    wide = draw.choice(SIZES)
    state = (draw.choice(SIZES), wide, 1)[: draw.choice((1, 1, 2, 2, 3))]
    sizes = [draw.choice(SIZES), *state]
    lines: list[Line] = []
    for _ in range(draw.randint(2, 10)):
        line = _line(draw, sizes, len(state), wide, smooth, lines)
        lines.append(line)
        sizes.append(line.size)
    news = []
    for part, size in enumerate(state):
        news.append(_new(draw, part, size, sizes, lines))
    return Drawn(sizes[0], tuple(state), tuple(lines), tuple(news))


def _new(draw: Random, part: int, size: int, sizes: list[int], lines: list[Line]) -> int:
    """A part of the new state: now and then a value that is there already, else a new line."""
    first = len(sizes) - len(lines)
    there = [i for i in range(1, first) if sizes[i] == size]
    there += [
        first + i for i, line in enumerate(lines) if line.size == size and line.name in BOUNDED
    ]
    if there and part and draw.random() < 0.3:
        return draw.choice(there)
    lines.append(Line("linear", (first + len(lines) - 1,), size))
    lines.append(Line(draw.choice(("tanh", "tanh", "sigmoid")), (first + len(lines) - 1,), size))
    sizes += [size, size]
    return len(sizes) - 1


#: Kinds of lines, and how often each comes.
KINDS = (
    *(("products",) * 5), *(("members",) * 3), *(("unary",) * 5), *(("binary",) * 4),
    "choices", "to one", "parts", "tied", "dropped",
)  # fmt: skip
TABLES = {
    "products": PRODUCTS, "members": MEMBERS, "unary": UNARY, "binary": BINARY,
    "choices": CHOICES, "to one": TO_ONE, "parts": PARTS, "tied": TIED, "dropped": DROPPED,
}  # fmt: skip


def _line(
    draw: Random, sizes: list[int], parts: int, wide: int, smooth: bool, lines: list[Line]
) -> Line:
    table = TABLES[draw.choice(KINDS)]
    names = [name for name, template in table.items() if template.smooth or not smooth]
    if not names:
        return _line(draw, sizes, parts, wide, smooth, lines)
    name = draw.choice(names)
    # Recent values are read more often: so long chains come about.
    a = len(sizes) - 1 if draw.random() < 0.5 else draw.randrange(len(sizes))
    if name == "dropped":
        a = 1
    if name == "tied":
        return _tied(draw, sizes, parts, lines) or _line(draw, sizes, parts, wide, smooth, lines)
    count = TEMPLATES[name].arguments
    fitting = [i for i, n in enumerate(sizes) if n in (1, sizes[a])]
    args = (a, *(draw.choice(fitting) for _ in range(count - 1)))
    return _sized(draw, name, args, sizes, wide)


def _sized(draw: Random, name: str, args: tuple[int, ...], sizes: list[int], wide: int) -> Line:
    size = sizes[args[0]]
    match TEMPLATES[name].size:
        case "free":
            return Line(name, args, draw.choice((1, wide, wide, 2 * wide)))
        case "one":
            extra = (draw.randrange(size),) if name == "select" else ()
            return Line(name, args, 1, extra)
        case "slice":
            start = draw.randrange(size)
            stop = draw.randint(start + 1, size)
            return Line(name, args, stop - start, (start, stop))
        case "first half":
            return Line(name, args, (size + 1) // 2)
        case "second half":
            if size == 1:
                return Line("tanh", args, 1)
            return Line(name, args, size // 2)
        case "cat":
            return Line(name, args, sum(sizes[arg] for arg in args))
        case _:
            return Line(name, args, max(sizes[arg] for arg in args))


def _tied(draw: Random, sizes: list[int], parts: int, lines: list[Line]) -> Line | None:
    """A product with the weight of an earlier one, where a value has its size."""
    first = 1 + parts
    ways = [
        Line("tied", (i,), line.size, (number,))
        for number, line in enumerate(lines)
        if line.name in ("F.linear", "made weight", "unit weight", "dropped")
        for i, size in enumerate(sizes)
        if size == sizes[line.args[0]]
    ]
    assert first + len(lines) == len(sizes)
    return draw.choice(ways) if ways else None
