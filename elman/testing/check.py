"""Whether a cell is differentiated right, and runs the same on every backend."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from elman.backends.reference.tolerance import TOLERANCE, difference, largest
from elman.cells.cell import Cell, like_of, weights_of
from elman.cells.checking import require_pure
from elman.errors import CheckError, OptionError, UnsupportedError, require_positive, unknown
from elman.layers import PlanReport, Recurrent
from elman.runtime.dispatch import ENGINES, plan_of
from elman.runtime.scan import Execution, Regularisation, scan
from elman.testing.problem import VARIANTS, Problem

BACKENDS = tuple(sorted(ENGINES))
#: Variants whose gradients are differentiated again, on three steps.
SECOND = ("plain", "state", "everything")


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
    Gradients that are differentiated again (``create_graph=True``), and those of second order, are
    compared for three steps. Memory is filled with NaN before each run.

    The cell itself is not changed; its parameters are used as they are. Small sizes are enough.

    Raises CheckError with the tensor, the first place that differs, both values, and the call
    that shows it again; PurityError where the step is not pure.
    """
    if not isinstance(cell, Cell):
        raise OptionError(f"check_cell takes an elman.Cell, as MyCell(3, 5), got {cell!r}")
    _check_options(steps, batches, backends, variants)
    exact = copy.deepcopy(cell).cpu().double()
    require_pure(exact)
    _check_gradient(exact, seed)
    skipped = _skipped(exact, backends)
    check = _Check(exact, {d: copy.deepcopy(exact).to(d) for d in dtypes}, seed)
    with _poisoned():
        able = [b for b in backends if b not in skipped]
        for T, B, variant in _problems(steps, batches, variants):
            check.run(T, B, variant, able)
        for variant in variants:
            if variant in SECOND:
                check.run(min(3, max(steps)), min(2, max(batches)), variant, able, second=True)
    plan = Recurrent(copy.deepcopy(cell)).plan(training=True)
    return CellReport(type(cell).__name__, check.compared, skipped, check.error, plan)


def _check_options(
    steps: Sequence[int], batches: Sequence[int], backends: Sequence[str], variants: Sequence[str]
) -> None:
    for kind, names, valid in (("variant", variants, VARIANTS), ("backend", backends, BACKENDS)):
        for name in names:
            if name not in valid:
                raise unknown(kind, name, valid)
    for size in (*steps, *batches):
        require_positive(size=size)


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


def _skipped(cell: Cell, backends: Sequence[str]) -> dict[str, str]:
    weights = weights_of(cell)
    plan = plan_of(cell, weights, Regularisation())
    if isinstance(plan, UnsupportedError):
        return dict.fromkeys(backends, str(plan))
    like = like_of(weights.values())
    refused = {name: ENGINES[name].refuses(plan, like) for name in backends}
    return {name: reason for name, reason in refused.items() if reason is not None}


def _check_gradient(cell: Cell, seed: int) -> None:
    """Compare the gradient of three literal steps with finite differences."""
    problem = Problem.make(cell, 3, 2, "state", seed)
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
    """Memory that torch hands out is full of NaN; nothing is said of slower paths."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


class _Check:
    """Compares the backends with the literal loop in float64, problem by problem."""

    def __init__(self, exact: Cell, cells: Mapping[torch.dtype, Cell], seed: int) -> None:
        self.exact, self.cells, self.seed = exact, cells, seed
        self.compared: dict[str, int] = {}
        self.error = 0.0

    def run(
        self, T: int, B: int, variant: str, backends: Sequence[str], second: bool = False
    ) -> None:
        """Raises CheckError where a backend differs from the loop by more than is allowed.

        second: gradients as graphs, and those of second order, in float64."""
        problem = Problem.make(self.exact, T, B, variant, self.seed)
        expected = problem.solve(self.exact, torch.float64, "loop", second)
        cells = {torch.float64: self.exact} if second else self.cells
        for dtype, cell in cells.items():
            allowed = _allowed(problem, cell, dtype, expected)
            for backend in backends:
                found = problem.solve(cell, dtype, backend, second)
                for name, right in expected.items():
                    wrong = self._wrong(found[name], right, allowed[name], backend)
                    if wrong:
                        kind = str(dtype).removeprefix("torch.")
                        raise CheckError(
                            f"{type(self.exact).__name__} on {backend}, T={T}, B={B}, {variant}, "
                            f"{kind}: {name} {wrong}; {_suspect(backend)}. To see it again: "
                            f"elman.testing.check_cell(cell, steps=[{T}], batches=[{B}], "
                            f"dtypes=[{dtype}], backends=[{backend!r}], variants=[{variant!r}], "
                            f"seed={self.seed})"
                        )

    def _wrong(self, found: Tensor, right: Tensor, allowed: float, backend: str) -> str:
        """What is wrong with a tensor; "" where nothing is."""
        wrong = difference(found, right, allowed)
        if wrong is not None:
            return f"is {wrong}"
        if found.dtype is torch.float64 and found.numel():
            off = (found - right).abs().nan_to_num(0.0, 0.0)
            self.error = max(self.error, float(off.max()) / largest(right))
        self.compared[backend] = self.compared.get(backend, 0) + 1
        return ""


def _allowed(
    problem: Problem, cell: Cell, dtype: torch.dtype, expected: Mapping[str, Tensor]
) -> dict[str, float]:
    """How far each result may lie from the loop's in float64."""
    limit = TOLERANCE[dtype]
    if dtype is torch.float64:
        return {name: limit.run * largest(value) for name, value in expected.items()}
    loop = problem.solve(cell, dtype, "loop")
    own = {
        n: float((loop[n].double() - e).abs().max()) if e.numel() else 0.0
        for n, e in expected.items()
    }
    return {n: limit.run * largest(e) + limit.run_errors * own[n] for n, e in expected.items()}


def _suspect(backend: str) -> str:
    if backend == "eager":
        return "the plan is wrong, before any code is generated from it"
    return "compare with backends=['eager']: if that is right, so is the plan, and the kernel wrong"
