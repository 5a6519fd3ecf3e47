"""Problems for a backend, and how far its answers may lie from the literal loop's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from elman.backends.reference.tolerance import TOLERANCE, Tolerance, difference
from elman.cells import Cell
from elman.cells.cell import as_tuple, weights_of
from elman.runtime.scan import Execution, Regularisation, SequenceInfo, scan


@dataclass(frozen=True)
class Problem:
    """A cell and all that `scan` wants, in float64; ``label`` says what is special about it."""

    cell: Cell
    x: Tensor
    state: tuple[Tensor, ...]
    sequence: SequenceInfo = field(default_factory=SequenceInfo)
    noise: Regularisation = field(default_factory=Regularisation)
    reverse: bool = False
    all_states: bool = True
    label: str = "plain"

    def to(self, dtype: torch.dtype) -> Problem:
        """The problem with every number rounded to the dtype."""

        def cast(x: Tensor) -> Tensor:
            return x.to(dtype) if x.is_floating_point() else x

        mask = self.noise.state_mask
        return replace(
            self,
            cell=copy.deepcopy(self.cell).to(dtype),
            x=cast(self.x),
            state=tuple(cast(s) for s in self.state),
            noise=replace(self.noise, state_mask=None if mask is None else cast(mask)),
        )


def randomised(cell: Cell, seed: int = 0) -> Cell:
    """The cell with random parameters under which a state neither dies nor explodes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in cell.parameters():
            width = parameter.shape[-1] if parameter.dim() > 1 else 1
            scale = min(0.5, width**-0.5) if parameter.dim() > 1 else 0.3
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(values * scale)
    return cell


def problem(cell: Cell, T: int, B: int, *options: str, seed: int = 0) -> Problem:
    """A problem of this size with these options, any of OPTIONS; the cell is float64."""
    generator = torch.Generator().manual_seed(seed)
    made = Problem(
        cell,
        torch.randn(T, B, cell.input_size, generator=generator, dtype=torch.float64),
        cell.initial_state((B,), torch.zeros((), dtype=torch.float64)),
    )
    for option in options:
        made = OPTIONS[option](made, generator)
    return replace(made, label="+".join(options) or "plain")


# ------------------------------------------------------------------ options


def _lengths(p: Problem, generator: torch.Generator) -> Problem:
    """Every length from 0 to T is met where the batch is large enough: first half, 0 and T."""
    T, B = p.x.shape[:2]
    some = list(dict.fromkeys((-(-T // 2), 0, *range(T, 0, -1))))
    lengths = torch.tensor([some[b % len(some)] for b in range(B)], dtype=torch.int64)
    lengths = lengths[torch.randperm(B, generator=generator)]
    return replace(p, sequence=replace(p.sequence, lengths=lengths))


def _reset(p: Problem, generator: torch.Generator) -> Problem:
    reset = torch.rand(p.x.shape[:2], generator=generator) < 0.3
    return replace(p, sequence=replace(p.sequence, reset=reset))


def _truncate(p: Problem, generator: torch.Generator) -> Problem:
    return replace(p, sequence=replace(p.sequence, truncate=1 + len(p.x) // 4))


def _state(p: Problem, generator: torch.Generator) -> Problem:
    """A state that the cell itself comes to: two steps from zero."""
    B, state = p.x.shape[1], p.state
    with torch.no_grad():
        for _ in range(2):
            x = torch.randn(B, p.cell.input_size, generator=generator, dtype=torch.float64)
            state = as_tuple(p.cell.step(x, *state))
    return replace(p, state=tuple(s.detach().clone() for s in state))


def _reverse(p: Problem, generator: torch.Generator) -> Problem:
    return replace(p, reverse=True)


def _dropout(p: Problem, generator: torch.Generator) -> Problem:
    B, O = p.x.shape[1], p.cell.output_size
    kept = torch.rand(B, O, generator=generator, dtype=torch.float64) < 0.5
    return replace(p, noise=replace(p.noise, state_mask=kept.double() * 2))


def _zoneout(
    draw: Callable[[Problem, int, torch.Generator], Tensor | float],
) -> Callable[[Problem, torch.Generator], Problem]:
    def option(p: Problem, generator: torch.Generator) -> Problem:
        allowed = p.cell.zoneout_parts or tuple(p.cell.state_sizes)
        zoneout = tuple(
            draw(p, i, generator) if name in allowed else None
            for i, name in enumerate(p.cell.state_sizes)
        )
        return replace(p, noise=replace(p.noise, zoneout=zoneout))

    return option


def _mask(p: Problem, part: int, generator: torch.Generator) -> Tensor:
    size = tuple(p.cell.state_sizes.values())[part]
    return torch.rand(*p.x.shape[:2], size, generator=generator) < 0.3


def _mixed(p: Problem, part: int, generator: torch.Generator) -> Tensor | float:
    return 0.25 if part % 2 else _mask(p, part, generator)


OPTIONS = {
    "plain": lambda p, generator: p,
    "lengths": _lengths,
    "reset": _reset,
    "truncate": _truncate,
    "state": _state,
    "reverse": _reverse,
    "dropout": _dropout,
    "zoneout": _zoneout(_mask),
    "rates": _zoneout(lambda p, part, generator: 0.25),
    "mixed": _zoneout(_mixed),
}


# ------------------------------------------------------------------ answers


def solve(p: Problem, backend: str) -> dict[str, Tensor]:
    """Every output, the last state, and every gradient under random cotangents, by name."""
    weights = {n: w.detach().clone().requires_grad_() for n, w in weights_of(p.cell).items()}
    x = p.x.clone().requires_grad_()
    state = tuple(s.clone().requires_grad_() for s in p.state)
    names = list(p.cell.state_sizes)
    states, last = scan(
        p.cell, weights, x, state,
        sequence=p.sequence, noise=p.noise, reverse=p.reverse, all_states=p.all_states,
        execution=Execution(backend),
    )  # fmt: skip
    found = {f"states {n}": s for n, s in zip(names, states, strict=False)}
    found |= {f"last {n}": s for n, s in zip(names, last, strict=True)}
    wrt = {"x": x, **{f"state {n}": s for n, s in zip(names, state, strict=True)}, **weights}
    found |= {f"d {n}": g for n, g in zip(wrt, _gradients(found, wrt), strict=True)}
    return {name: value.detach() for name, value in found.items()}


def _gradients(found: dict[str, Tensor], wrt: dict[str, Tensor]) -> tuple[Tensor, ...]:
    cotangents = _cotangents(list(found.values()))
    pairs = [(f, d) for f, d in zip(found.values(), cotangents, strict=True) if f.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(w) for w in wrt.values())
    outputs, d_outputs = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, list(wrt.values()), d_outputs, materialize_grads=True)


def _cotangents(like: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(f.shape, generator=generator, dtype=torch.float32).to(f) for f in like]


@dataclass(frozen=True)
class Oracle:
    """A problem rounded to a dtype, and the literal loop's answers in that dtype and float64."""

    problem: Problem
    dtype: torch.dtype
    loop: dict[str, Tensor]
    exact: dict[str, Tensor]


def oracle(p: Problem, dtype: torch.dtype) -> Oracle:
    rounded = p.to(dtype)
    exact = solve(rounded.to(torch.float64), "loop")
    return Oracle(
        rounded, dtype, exact if dtype == torch.float64 else solve(rounded, "loop"), exact
    )


def mistakes(right: Oracle, *backends: str) -> Iterator[str]:
    """What each backend gets wrong, in memory that was NaN before."""
    p, dtype = right.problem, right.dtype
    for backend in backends:
        with poisoned():
            found = solve(p, backend)
        for name, value in found.items():
            wrong = _compared(value, right.loop[name], right.exact[name], TOLERANCE[dtype])
            if wrong:
                yield f"{backend} {p.label} {list(p.x.shape)} {dtype}: {name}: {wrong}"


def assert_solves(p: Problem, dtype: torch.dtype, *backends: str) -> None:
    """The backends' answers agree with the literal loop's, within TOLERANCE."""
    wrong = list(mistakes(oracle(p, dtype), *backends))
    assert not wrong, "\n".join(wrong)


def _compared(found: Tensor, loop: Tensor, exact: Tensor, tolerance: Tolerance) -> str:
    """What is wrong with a tensor; "" where nothing is."""
    if (found.shape, found.dtype) != (loop.shape, loop.dtype):
        return f"{list(found.shape)} {found.dtype}, not {list(loop.shape)} {loop.dtype}"
    if not found.numel():
        return ""
    if not bool(exact.isfinite().all()):
        return "the loop's own numbers are not finite"
    scale = max(1.0, exact.abs().max().item())
    # Of a single number the loop's error can be small by chance.
    floor = tolerance.kernel * (2 if found.numel() == 1 else 1)
    limit = floor * scale + tolerance.kernel_errors * (loop - exact).abs().max().item()
    return str(difference(found, exact, limit) or "")


@contextmanager
def poisoned() -> Iterator[None]:
    """New memory that nobody has written to yet is NaN, or the greatest integer."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        assert torch.empty(3).isnan().all() and torch.zeros(()).new_empty(3).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(False)
