"""For people who write cells: `check_cell` and `assert_close`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from elman.backends.choose import ENGINES, plan_of
from elman.cells.cell import Cell, State, as_tuple, weights_of
from elman.cells.checking import require_pure
from elman.errors import CheckError, UnsupportedError, require_positive, unknown
from elman.layers import PlanReport, Recurrent
from elman.scan import Execution, Noise, scan
from elman.scan import Sequence as Rows

#: How far two ways to compute the same number may lie apart: absolutely, and relative to it.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 3e-2, torch.float16: 4e-3}
#: How far a float64 result may lie from the loop's, relative to the largest of its tensor.
EXACT = 1e-8
#: The same for float32; and how many times the error of torch's own float32 loop.
SINGLE, TIMES = 1e-4, 8
#: What is checked beside a plain run from the initial state.
VARIANTS = ("plain", "state", "lengths", "reset", "truncate", "reverse", "everything")
BACKENDS = ("eager", "llvm")


def assert_close(actual: Any, expected: Any, tolerance: float | None = None) -> None:
    """Raise CheckError where two tensors, or two nests of them, are not close.

        |actual - expected| <= tolerance * (1 + |expected|), NaN where NaN is expected

    tolerance: None takes it from `TOLERANCE`, by the dtype of the expected tensor.
    The error names the place in the nest, the first index that is wrong, and both values.
    """
    for place, found, right in _pairs("", actual, expected):
        name = f"tensor{place}"
        kinds = [(list(t.shape), t.dtype) for t in (found, right)]
        if kinds[0] != kinds[1]:
            raise CheckError(
                f"{name} is {kinds[0][1]} {kinds[0][0]}, not {kinds[1][1]} {kinds[1][0]}"
            )
        allowed = TOLERANCE.get(right.dtype, 0.0) if tolerance is None else tolerance
        close = torch.isclose(found, right, rtol=allowed, atol=allowed, equal_nan=True)
        if not bool(close.all()):
            at = _first(~close)
            raise CheckError(
                f"{name} at {at} is {found[at].item():.9g}, expected {right[at].item():.9g}; "
                f"{int((~close).sum())} of {close.numel()} differ by more than {allowed:g}"
            )


def _pairs(place: str, actual: Any, expected: Any) -> Iterator[tuple[str, Tensor, Tensor]]:
    if isinstance(expected, Tensor) and isinstance(actual, Tensor):
        yield place, actual, expected
    elif isinstance(expected, Mapping) and isinstance(actual, Mapping):
        if actual.keys() != expected.keys():
            raise CheckError(f"keys{place} are {sorted(actual)}, not {sorted(expected)}")
        for key in expected:
            yield from _pairs(f"{place}[{key!r}]", actual[key], expected[key])
    elif isinstance(expected, tuple | list) and isinstance(actual, tuple | list):
        if len(actual) != len(expected):
            raise CheckError(f"there are {len(actual)} values{place}, not {len(expected)}")
        for number, pair in enumerate(zip(actual, expected, strict=True)):
            yield from _pairs(f"{place}[{number}]", *pair)
    else:
        kinds = type(actual).__name__, type(expected).__name__
        raise CheckError(f"value{place} is a {kinds[0]}, expected a {kinds[1]}")


def _first(wrong: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in wrong.nonzero()[0])


@dataclass(frozen=True)
class CellReport:
    """What `check_cell` found right.

    compared: how many tensors were compared with the literal loop, by backend.
    skipped: backends that cannot run the cell, and why.
    error: the largest distance in float64, relative to the largest value of its tensor.
    plan: what a layer of this cell runs.
    """

    cell: str
    compared: Mapping[str, int]
    skipped: Mapping[str, str]
    error: float
    plan: PlanReport

    def __str__(self) -> str:
        lines = [f"{self.cell}: the step is pure, and its gradient is that of its values"]
        lines += [f"{name}: {n} tensors as the loop's" for name, n in self.compared.items()]
        lines += [f"{name}: skipped, {reason}" for name, reason in self.skipped.items()]
        if self.compared:
            lines.append(f"largest error in float64: {self.error:.1e} of the largest value")
        return "\n".join([*lines, "", str(self.plan)])


def check_cell(
    cell: Cell,
    *,
    steps: Sequence[int] = (1, 2, 63),
    batches: Sequence[int] = (1, 3, 17),
    dtypes: Sequence[torch.dtype] = (torch.float64, torch.float32),
    backends: Sequence[str] = BACKENDS,
    variants: Sequence[str] = VARIANTS,
    seed: int = 0,
) -> CellReport:
    """Check that a cell is differentiated right, and runs the same on every backend.

    The literal loop is compared with finite differences in float64; then every backend with the
    loop: every part of the state at every step, the last state, and the gradients of x, of the
    initial state and of every parameter for random cotangents. ``variants``: a plain run, a state
    passed in, sequences of different lengths, resets, truncation, the reverse direction, and
    everything at once; the first and the last for every length and batch size, the others for one.
    Memory is filled with NaN before each run.

    The cell itself is not changed; its parameters are used as they are. Small sizes are enough.

    Raises CheckError with the tensor, the first place that differs, both values, and the call
    that shows it again; PurityError where the step is not pure.
    """
    for name in variants:
        if name not in VARIANTS:
            raise unknown("variant", name, VARIANTS)
    for name in backends:
        if name not in BACKENDS:
            raise unknown("backend", name, BACKENDS)
    for size in (*steps, *batches):
        require_positive(size=size)
    exact = copy.deepcopy(cell).cpu().double()
    require_pure(exact)
    _check_gradient(exact, seed)
    skipped = _skipped(exact, backends)
    check = _Check(exact, {d: copy.deepcopy(exact).to(d) for d in dtypes}, seed)
    with _poisoned():
        for T, B, variant in _problems(steps, batches, variants):
            check.run(T, B, variant, [b for b in backends if b not in skipped])
    plan = Recurrent(copy.deepcopy(cell)).plan(training=True)
    return CellReport(type(cell).__name__, check.compared, skipped, check.error, plan)


def _problems(
    steps: Sequence[int], batches: Sequence[int], variants: Sequence[str]
) -> Iterator[tuple[int, int, str]]:
    """All variants in one long shape; in the others, the plain one and everything at once."""
    T, B = max(steps), sorted(batches)[len(batches) // 2]
    for variant in variants:
        yield T, B, variant
    for shape in product(steps, batches):
        if shape != (T, B):
            for variant in variants:
                if variant in ("plain", "everything"):
                    yield *shape, variant


def _skipped(cell: Cell, backends: Iterable[str]) -> dict[str, str]:
    weights = weights_of(cell)
    plan = plan_of(cell, weights, Noise())
    if isinstance(plan, UnsupportedError):
        return dict.fromkeys(backends, str(plan))
    like = next(iter(weights.values()), torch.zeros(()))
    refused = {name: ENGINES[name].refuses(plan, like) for name in backends}
    return {name: reason for name, reason in refused.items() if reason is not None}


def _check_gradient(cell: Cell, seed: int) -> None:
    """Compare the gradient of three literal steps with finite differences."""
    problem = _Problem.make(cell, 3, 2, "state", seed)
    count = 1 + len(problem.state)

    def loop(*inputs: Tensor) -> tuple[Tensor, ...]:
        weights = dict(zip(weights_of(cell), inputs[count:], strict=True))
        found = scan(
            cell, weights, inputs[0], inputs[1:count], all_states=True, execution=Execution("loop")
        )
        return (*found[0], *found[1])

    given = (problem.x, *problem.state, *weights_of(cell).values())
    inputs = [t.detach().clone().requires_grad_(t.is_floating_point()) for t in given]
    try:
        torch.autograd.gradcheck(loop, inputs, fast_mode=True)
    except GradcheckError as error:
        raise CheckError(
            f"{type(cell).__name__}: torch's gradient of the literal loop is not that of finite "
            f"differences in float64; is a part of the step detached, or in float32? {error}"
        ) from error


@contextmanager
def _poisoned() -> Iterator[None]:
    """Memory that torch hands out is full of NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


@dataclass(frozen=True)
class _Problem:
    """Input, state and what is known of the sequences, in float64."""

    x: Tensor
    state: State
    rows: Rows
    reverse: bool
    seed: int

    @classmethod
    def make(cls, cell: Cell, T: int, B: int, variant: str, seed: int) -> _Problem:
        seed = seed + 7919 * T + 104729 * B
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(T, B, cell.input_size, generator=draw, dtype=torch.float64)
        every = variant == "everything"
        state = cell.initial_state((B,), x)
        if every or variant == "state":
            with torch.no_grad():  # one that the cell itself comes to
                state = as_tuple(
                    cell.step(torch.randn(x[0].shape, generator=draw).double(), *state)
                )
        lengths = torch.randint(0, T + 1, (B,), generator=draw) if B > 1 else torch.tensor([T])
        rows = Rows(
            lengths if every or variant == "lengths" else None,
            torch.rand(T, B, generator=draw) < 0.2 if every or variant == "reset" else None,
            max(1, T // 4) if every or variant == "truncate" else None,
        )
        return cls(x, state, rows, every or variant == "reverse", seed)

    def solve(self, cell: Cell, dtype: torch.dtype, backend: str) -> dict[str, Tensor]:
        """Every result by name; gradients for the same cotangents at every call."""
        x = self.x.to(dtype).requires_grad_()
        state = tuple(s.detach().to(dtype).requires_grad_() for s in self.state)
        weights = {
            n: w.detach().requires_grad_(w.is_floating_point()) for n, w in weights_of(cell).items()
        }
        states, last = scan(
            cell, weights, x, state, sequence=self.rows, reverse=self.reverse, all_states=True,
            execution=Execution(backend),
        )  # fmt: skip
        names = list(cell.state_sizes)
        found = dict(zip([f"{n} (t, b, unit)" for n in names], states, strict=True))
        found |= dict(zip([f"the last {n} (b, unit)" for n in names], last, strict=True))
        draw = torch.Generator().manual_seed(self.seed + 1)
        cotangents = [
            torch.randn(f.shape, generator=draw, dtype=torch.float64) for f in found.values()
        ]
        wrt = {"d_x (t, b, unit)": x}
        wrt |= dict(
            zip([f"d_{n} of the initial state (b, unit)" for n in names], state, strict=True)
        )
        wrt |= {f"d_{n}": w for n, w in weights.items() if w.requires_grad}
        pairs = [
            (f, c.to(dtype))
            for f, c in zip(found.values(), cotangents, strict=True)
            if f.requires_grad
        ]
        grads = torch.autograd.grad(
            [f for f, _ in pairs], list(wrt.values()), [c for _, c in pairs],
            allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        results = found | dict(zip(wrt, grads, strict=True))
        return {name: value.detach() for name, value in results.items()}


class _Check:
    """Compares the backends with the literal loop in float64, problem by problem."""

    def __init__(self, exact: Cell, cells: Mapping[torch.dtype, Cell], seed: int) -> None:
        self.exact, self.cells, self.seed = exact, cells, seed
        self.compared: dict[str, int] = {}
        self.error = 0.0

    def run(self, T: int, B: int, variant: str, backends: Sequence[str]) -> None:
        problem = _Problem.make(self.exact, T, B, variant, self.seed)
        expected = problem.solve(self.exact, torch.float64, "loop")
        for dtype, cell in self.cells.items():
            allowed = self._allowed(problem, cell, dtype, expected)
            for backend in backends:
                found = problem.solve(cell, dtype, backend)
                about = f"T={T}, B={B}, {variant}, {str(dtype).removeprefix('torch.')}"
                again = (
                    f"elman.testing.check_cell(cell, steps=[{T}], batches=[{B}], "
                    f"dtypes=[{dtype}], backends=[{backend!r}], variants=[{variant!r}], "
                    f"seed={self.seed})"
                )
                self._compare(found, expected, allowed, backend, about, again)

    def _allowed(
        self, problem: _Problem, cell: Cell, dtype: torch.dtype, expected: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """How far each result may lie from the loop's in float64."""
        if dtype is torch.float64:
            return {name: EXACT * _scale(value) for name, value in expected.items()}
        loop = problem.solve(cell, dtype, "loop")
        own = {
            n: float((loop[n].double() - e).abs().max()) if e.numel() else 0.0
            for n, e in expected.items()
        }
        return {n: SINGLE * _scale(e) + TIMES * own[n] for n, e in expected.items()}

    def _compare(
        self,
        found: Mapping[str, Tensor],
        expected: Mapping[str, Tensor],
        allowed: Mapping[str, float],
        backend: str,
        about: str,
        again: str,
    ) -> None:
        for name, right in expected.items():
            value = found[name].double()
            off = torch.where(value.isnan() & right.isnan(), 0.0, (value - right).abs())
            wrong = ~((off <= allowed[name]) | (value == right))
            if bool(wrong.any()):
                at = _first(wrong)
                raise CheckError(
                    f"{type(self.exact).__name__} on {backend}, {about}: {name} at {at} is "
                    f"{value[at].item():.9g}, the literal loop says {right[at].item():.9g} "
                    f"({int(wrong.sum())} of {wrong.numel()} are off by more than "
                    f"{allowed[name]:.1e}); {_suspect(backend)}. To see it again: {again}"
                )
            if found[name].dtype is torch.float64 and off.numel():
                self.error = max(self.error, float(off.max()) / _scale(right))
            self.compared[backend] = self.compared.get(backend, 0) + 1


def _scale(value: Tensor) -> float:
    finite = value[value.isfinite()]
    return float(finite.abs().max()) or 1.0 if finite.numel() else 1.0


def _suspect(backend: str) -> str:
    if backend == "eager":
        return "the plan is wrong, before any code is generated from it"
    return "compare with backends=['eager']: if that is right, so is the plan, and the kernel wrong"
