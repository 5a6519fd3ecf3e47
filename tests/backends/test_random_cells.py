"""Cells that nobody wrote: random steps from the supported operations, against the loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, currently_in_test_context, given, note, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import elman
from tests.backends.support import assert_solves, problem, randomised

#: Functions of one value, in ranges where they are neither infinite nor undefined.
UNARY = {
    "neg": torch.neg,
    "exp": lambda v: torch.exp(torch.tanh(v)),
    "log": lambda v: torch.log(v.abs() + 0.5),
    "log1p": lambda v: torch.log1p(v.abs()),
    "expm1": lambda v: torch.expm1(torch.tanh(v)),
    "sqrt": lambda v: torch.sqrt(v * v + 0.25),
    "rsqrt": lambda v: torch.rsqrt(v * v + 0.25),
    "reciprocal": lambda v: torch.reciprocal(v.abs() + 0.5),
    "abs": torch.abs,
    "sign": lambda v: torch.sign(v) * v,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "relu": torch.relu,
    "sin": torch.sin,
    "cos": torch.cos,
    "square": torch.square,
    "gelu": F.gelu,
    "gelu tanh": lambda v: F.gelu(v, approximate="tanh"),
    "silu": F.silu,
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "elu": F.elu,
    "leaky_relu": F.leaky_relu,
    "mish": F.mish,
    "hardtanh": F.hardtanh,
    # torch's own gradient of hardsigmoid has 1/6 in float32
    "hardsigmoid": lambda v: F.hardtanh(v + 3, 0.0, 6.0) / 6,
    "hardswish": F.hardswish,
    "clamp": lambda v: v.clamp(-0.4, 0.7),
    "cube": lambda v: torch.tanh(v) ** 3,
    "power": lambda v: (v.abs() + 0.5) ** 1.7,
    "half": lambda v: 0.5 * v - 1,
    "stopped": lambda v: v + torch.tanh(v).detach(),
}
BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": lambda a, b: a / (b * b + 0.5),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "pow": lambda a, b: (a.abs() + 0.5) ** torch.tanh(b),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
    "logaddexp": torch.logaddexp,
}
COMPARE = {
    "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge, "eq": torch.eq, "ne": torch.ne,
}  # fmt: skip
#: Truth values of two comparisons.
LOGICAL = {
    "and": lambda p, q: p & q,
    "or": lambda p, q: p | q,
    "xor": torch.logical_xor,
    "not": lambda p, q: ~p,
    "number": lambda p, q: (p.to(torch.float64) - 0.5) * 2 > q.to(torch.float64),
}
#: Functions along the last axis: whether they leave its size as it is.
ALONG = {
    "softmax": lambda v: torch.softmax(v, -1),
    "log_softmax": lambda v: F.log_softmax(v, -1),
    "layer_norm": lambda v: F.layer_norm(v, v.shape[-1:], eps=0.01),
    "rms_norm": lambda v: F.rms_norm(v, v.shape[-1:], eps=0.01),
    "centred": lambda v: v - v.mean(-1, keepdim=True),
}
TO_ONE = {
    "sum": lambda v: v.sum(-1, keepdim=True),
    "mean": lambda v: v.mean(-1, keepdim=True),
    "amax": lambda v: v.amax(-1, keepdim=True),
    "var": lambda v: v.var(-1, keepdim=True, correction=0),
    "logsumexp": lambda v: torch.logsumexp(v, -1, keepdim=True),
}

Instruction = tuple[Any, ...]


class Drawn(elman.Cell):
    """A program: each instruction adds a value to a list that begins with x and the state."""

    def __init__(self, input_size: int, state: dict[str, int], program: list[Instruction]) -> None:
        super().__init__(input_size, **state)
        self.program = tuple(program)
        sizes = [input_size, *state.values()]
        products = {}
        for number, (op, *arguments) in enumerate(program):
            if op == "linear":
                products[str(number)] = nn.Linear(sizes[arguments[0]], arguments[1])
            sizes.append(_size(op, arguments, sizes))
        self.products = nn.ModuleDict(products)
        self.outputs = nn.ModuleList(nn.Linear(sizes[-1], size) for size in state.values())

    def step(self, x: Tensor, *state: Tensor) -> Any:
        values = [x, *state]
        for number, (op, *arguments) in enumerate(self.program):
            if op == "linear":
                values.append(self.products[str(number)](values[arguments[0]]))
            else:
                values.append(_run(op, arguments, values))
        return tuple(torch.tanh(output(values[-1])) for output in self.outputs)


def _run(op: str, arguments: list[Any], values: list[Tensor]) -> Tensor:
    match op, arguments:
        case "slice", (a, start, stop):
            return values[a][..., start:stop]
        case "chunk", (a, which):
            return values[a].chunk(2, -1)[which]
        case "cat", (a, b):
            return torch.cat([values[a], values[b]], -1)
        case "where", (name, a, b, c, d):
            return torch.where(COMPARE[name](values[a], values[b]), values[c], values[d])
        case "logical", (name, a, b, c, d):
            both = torch.broadcast_tensors(values[a] > 0, values[b] <= values[a])
            return torch.where(LOGICAL[name](*both), values[c], values[d])
        case _:
            table = {"unary": UNARY, "binary": BINARY, "along": ALONG, "to one": TO_ONE}[op]
            return table[arguments[0]](*(values[a] for a in arguments[1:]))


def _size(op: str, arguments: list[Any], sizes: list[int]) -> int:
    match op, arguments:
        case "linear", (_, size):
            return size
        case "slice", (_, start, stop):
            return stop - start
        case "chunk", (a, which):
            half = (sizes[a] + 1) // 2
            return sizes[a] - half if which else half
        case "cat", (a, b):
            return sizes[a] + sizes[b]
        case "to one", _:
            return 1
        case _:
            return max(sizes[a] for a in arguments if isinstance(a, int))


@st.composite
def cells(draw: st.DrawFn) -> Drawn:
    """A cell of 3 to 12 instructions, each of which reads any value before it."""
    size = st.sampled_from([1, 2, 3, 5, 8, 16, 17, 19])
    I, wide = draw(size), draw(size)
    state = {"h": draw(size), "c": wide, "m": 1}
    state = dict(list(state.items())[: draw(st.integers(1, 3))])
    sizes, program = [I, *state.values()], []
    for _ in range(draw(st.integers(3, 12))):
        instruction = draw(_instruction(tuple(sizes), wide))
        program.append(instruction)
        sizes.append(_size(instruction[0], list(instruction[1:]), sizes))
    return randomised(Drawn(I, state, program).double(), seed=len(program))


@st.composite
def _instruction(draw: st.DrawFn, sizes: tuple[int, ...], wide: int) -> Instruction:
    # Recent values are read more often: so long chains come about.
    a = draw(st.one_of(st.just(len(sizes) - 1), st.integers(0, len(sizes) - 1)))
    fitting = [i for i, n in enumerate(sizes) if 1 in (n, sizes[a]) or n == sizes[a]]
    kinds = ["linear", "linear", "unary", "unary", "binary", "binary", "where", "logical", "along"]
    kinds += ["to one", "cat", "slice", *(["chunk"] if sizes[a] > 1 else [])]
    op = draw(st.sampled_from(kinds))
    if op == "linear":
        return op, a, draw(st.sampled_from([1, wide, wide, 2 * wide, 3 * wide]))
    if op in ("unary", "along", "to one"):
        table = {"unary": UNARY, "along": ALONG, "to one": TO_ONE}[op]
        return op, draw(st.sampled_from(sorted(table))), a
    if op == "binary":
        return op, draw(st.sampled_from(sorted(BINARY))), a, draw(st.sampled_from(fitting))
    if op in ("where", "logical"):
        same = [i for i in fitting if sizes[i] in (1, sizes[a])]
        others = [draw(st.sampled_from(same)) for _ in range(3)]
        table = COMPARE if op == "where" else LOGICAL
        return op, draw(st.sampled_from(sorted(table))), a, *others
    if op == "slice":
        start = draw(st.integers(0, sizes[a] - 1))
        return op, a, start, draw(st.integers(start + 1, sizes[a]))
    if op == "chunk":
        return op, a, draw(st.integers(0, 1))
    return op, a, draw(st.integers(0, len(sizes) - 1))


@pytest.fixture(autouse=True)
def _apart(float64, tmp_path_factory, monkeypatch) -> None:
    """Cells that never come again do not belong into the user's cache."""
    monkeypatch.setenv("ELMAN_CACHE", str(tmp_path_factory.mktemp("cache")))


def assert_right(cell: Drawn, *backends: str) -> None:
    """On the problem as it comes, and ragged, cut and backwards."""
    if currently_in_test_context():
        note(f"program: {cell.program}")
    assert_solves(problem(cell, 4, 5, "state"), torch.float64, *backends)
    ragged = problem(cell, 5, 6, "lengths", "reset", "truncate", "reverse", seed=1)
    assert_solves(ragged, torch.float64, *backends)


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@_settings(60)
@given(cells())
def test_the_compiler_understands_a_random_cell(cell: Drawn) -> None:
    assert_right(cell, "eager")


@_settings(15)  # `tests/test_testing.py` runs programs on the kernels of many more
@given(cells())
def test_kernels_of_a_random_cell(cell: Drawn) -> None:
    assert_right(cell, "llvm")


@pytest.mark.parametrize("name", UNARY)
def test_each_function_of_one_value(name: str) -> None:
    program = [("linear", 1, 5), ("unary", name, 2), ("binary", "add", 3, 0)]
    assert_right(_one(program), "eager")


@pytest.mark.parametrize("name", [*BINARY, *COMPARE, *LOGICAL, *ALONG, *TO_ONE])
def test_each_function_of_several_values(name: str) -> None:
    kinds = {"binary": BINARY, "where": COMPARE, "logical": LOGICAL}
    kinds |= {"along": ALONG, "to one": TO_ONE}
    kind = next(kind for kind, table in kinds.items() if name in table)
    arguments = {"binary": (2, 0), "where": (2, 0, 1, 2), "logical": (2, 0, 1, 2)}.get(kind, (2,))
    assert_right(_one([("linear", 1, 5), (kind, name, *arguments)]), "eager")


def test_all_functions_of_one_value_in_one_kernel() -> None:
    """Half of them after the other half, each on a product of the state."""
    program: list[Instruction] = [("linear", 1, 5)]
    for name in UNARY:
        program += [("unary", name, 2), ("binary", "add", len(program) + 2, 0)]
    summed = [("linear", 3 + 2 * i, 5) for i in range(len(UNARY))]
    program += summed
    first = 2 + 1 + 2 * len(UNARY)
    at = first
    for i in range(1, len(summed)):
        program.append(("binary", "add", at, first + i))
        at = first + len(summed) + i - 1
    assert_right(_one(program), "eager", "llvm")


def _one(program: list[Instruction]) -> Drawn:
    return randomised(Drawn(5, {"h": 5}, program).double())
