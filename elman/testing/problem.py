"""A problem for every backend: what a cell is run on, and all that comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from elman.cells.cell import Cell, State, as_tuple, weights_of
from elman.runtime.scan import Execution, SequenceInfo, scan

#: What is checked beside a plain run from the initial state.
VARIANTS = ("plain", "state", "lengths", "reset", "truncate", "reverse", "everything")


@dataclass(frozen=True)
class Problem:
    """Input, state and what is known of the sequences, in float64."""

    x: Tensor
    state: State
    sequence: SequenceInfo
    reverse: bool
    seed: int

    @classmethod
    def make(cls, cell: Cell, T: int, B: int, variant: str, seed: int) -> Problem:
        """variant: one of `VARIANTS`. seed: of the numbers, together with T and B."""
        seed = seed + 7919 * T + 104729 * B
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(T, B, cell.input_size, generator=draw, dtype=torch.float64)
        state = cell.initial_state((B,), x)

        def has(property: str) -> bool:
            return variant in (property, "everything")

        if has("state"):
            with torch.no_grad():  # one that the cell itself comes to
                before = torch.randn(x[0].shape, generator=draw).double()
                state = as_tuple(cell.step(before, *state))
        lengths = torch.randint(0, T + 1, (B,), generator=draw) if B > 1 else torch.tensor([T])
        sequence = SequenceInfo(
            lengths if has("lengths") else None,
            torch.rand(T, B, generator=draw) < 0.2 if has("reset") else None,
            max(1, T // 4) if has("truncate") else None,
        )
        return cls(x, state, sequence, has("reverse"), seed)

    def solve(
        self, cell: Cell, dtype: torch.dtype, backend: str, second: bool = False
    ) -> dict[str, Tensor]:
        """Every result by name; gradients for the same cotangents at every call.

        second: gradients as a graph, and theirs beside them.
        """
        x = self.x.to(dtype).requires_grad_()
        state = tuple(s.detach().to(dtype).requires_grad_() for s in self.state)
        weights = {
            n: w.detach().requires_grad_(w.is_floating_point()) for n, w in weights_of(cell).items()
        }
        states, last = scan(
            cell, weights, x, state, sequence=self.sequence, reverse=self.reverse, all_states=True,
            execution=Execution(backend),
        )  # fmt: skip
        names = list(cell.state_sizes)
        found = {f"{n} (t, b, unit)": s for n, s in zip(names, states, strict=True)}
        found |= {f"the last {n} (b, unit)": s for n, s in zip(names, last, strict=True)}
        wrt = {"d_x (t, b, unit)": x}
        wrt |= {
            f"d_{n} of the initial state (b, unit)": s for n, s in zip(names, state, strict=True)
        }
        wrt |= {f"d_{n}": w for n, w in weights.items() if w.requires_grad}
        grads = self._gradients(found, wrt, second)
        results = found | grads
        if second:
            named = self._gradients({f"d {n}": g for n, g in grads.items()}, wrt)
            results |= {f"second order, {name}": grad for name, grad in named.items()}
        return {name: value.detach() for name, value in results.items()}

    def _gradients(
        self, found: Mapping[str, Tensor], wrt: Mapping[str, Tensor], graph: bool = False
    ) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(self.seed + 1)
        pairs = []
        for f in found.values():
            cotangent = torch.randn(f.shape, generator=draw, dtype=torch.float64)
            if f.requires_grad:
                pairs.append((f, cotangent.to(f.dtype)))
        if not pairs:
            return {name: torch.zeros_like(value) for name, value in wrt.items()}
        grads = torch.autograd.grad(
            [f for f, _ in pairs], list(wrt.values()), [c for _, c in pairs],
            create_graph=graph, allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        return dict(zip(wrt, grads, strict=True))
