"""A program that fails, made as short as it can be while it still does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from elman.testing.fuzz.cells import Drawn, Line
from elman.testing.fuzz.compare import Verdict, judge
from elman.testing.fuzz.layers import Both, Deep, Lifted, Torch, Zoo
from elman.testing.fuzz.programs import Act, Program


def wrong(program: Program) -> bool:
    """Whether it differs from the loop; what cannot be built does not."""
    try:
        return judge(program).verdict is Verdict.WRONG
    except Exception:
        return False


def shrink(
    program: Program, fails: Callable[[Program], bool] = wrong, seconds: float = 60
) -> Program:
    """The shortest program that was found to fail within this time."""
    until = time.monotonic() + seconds
    found: Program | None = program
    while found is not None:
        program, found = found, None
        for candidate in _shorter(program):
            if time.monotonic() > until:
                return program
            if fails(candidate):
                found = candidate
                break
    return program


def _shorter(program: Program) -> Iterator[Program]:
    """Programs that are simpler by one thing, the greatest first."""
    acts = program.acts
    if len(acts) > 1:
        for i in range(len(acts)):
            yield program._replace(acts=acts[:i] + acts[i + 1 :])
    for spec in _simpler(program.spec):
        yield program._replace(spec=spec)
    for i, act in enumerate(acts):
        for other in _plainer(act):
            yield program._replace(acts=(*acts[:i], other, *acts[i + 1 :]))
    for backend in ("eager", "llvm"):
        if program.backend == "auto" or (program.backend == "llvm" and backend == "eager"):
            yield program._replace(backend=backend)
    if program.dtype == "float32":
        yield program._replace(dtype="float64")


def _plainer(act: Act) -> Iterator[Act]:
    """The act without one of its options, or with a smaller number."""
    options = dict(act.options)
    for name, value in options.items():
        if act.name == "call" and name not in ("T", "B"):
            yield Act(act.name, tuple((k, v) for k, v in act.options if k != name))
        elif name in ("T", "B") and isinstance(value, int) and value > 1:
            for smaller in sorted({1, 2, value - 1} - {value}):
                yield Act(act.name, tuple((options | {name: smaller}).items()))


def _without(options: tuple[tuple[str, Any], ...]) -> Iterator[tuple[tuple[str, Any], ...]]:
    for i in range(len(options)):
        yield options[:i] + options[i + 1 :]


def _simpler(spec: Any) -> Iterator[Any]:
    """Layers that are simpler by one thing."""
    match spec:
        case Both(ahead, back, merge):
            yield ahead
            yield back
            yield from (Both(one, back, merge) for one in _simpler(ahead))
            yield from (Both(ahead, one, merge) for one in _simpler(back))
        case Deep(layers, options):
            yield from layers
            yield from (Deep(layers, rest) for rest in _without(options))
            for i, layer in enumerate(layers):
                for one in _simpler(layer):
                    yield Deep((*layers[:i], one, *layers[i + 1 :]), options)
        case Lifted(cell, options):
            yield from (Lifted(cell, rest) for rest in _without(options))
            yield from (Lifted(one, options) for one in _smaller(cell))
        case Torch(kind, I, hidden, options):
            yield from (Torch(kind, I, hidden, rest) for rest in _without(options))
            if hidden > 2:
                yield Torch(kind, I, 2, options)


def _smaller(cell: Zoo | Drawn) -> Iterator[Zoo | Drawn]:
    if isinstance(cell, Zoo):
        for hidden in (1, 2):
            if hidden < cell.hidden:
                yield cell._replace(hidden=hidden)
        return
    for number in range(len(cell.lines)):
        yield from _without_line(cell, number)


def _without_line(cell: Drawn, number: int) -> Iterator[Drawn]:
    """The cell with another value of its size in the place of a line's."""
    first = 1 + len(cell.state)
    gone, sizes = first + number, cell.sizes
    for other in range(gone):
        if sizes[other] != sizes[gone]:
            continue

        def moved(i: int, other: int = other) -> int:
            return other if i == gone else i - (i > gone)

        rest = cell.lines[:number] + cell.lines[number + 1 :]
        if any(line.name == "tied" and line.extra[0] == number for line in cell.lines):
            return
        lines = tuple(
            Line(
                line.name,
                tuple(moved(i) for i in line.args),
                line.size,
                (line.extra[0] - (line.extra[0] > number),) if line.name == "tied" else line.extra,
            )
            for line in rest
        )
        yield cell._replace(lines=lines, news=tuple(moved(i) for i in cell.news))
