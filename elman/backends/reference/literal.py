"""The literal loop: one call of ``cell.step`` a time step, under torch autograd, or of the cell
itself, where it has hooks.

It shares nothing with the compiler: everything compiled is tested against it, and what cannot be
compiled runs through it.
"""

import torch
from torch import Tensor

from elman.backends.operands import autocasts
from elman.backends.sequence import Regularisation, SequenceInfo
from elman.cells.cell import Cell, State, as_tuple, bind
from elman.cells.checking import note_shapes, step_line
from elman.cells.hooks import step_of
from elman.errors import ShapeError


def literal_loop(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    sequence: SequenceInfo,
    noise: Regularisation,
    reverse: bool,
    all_states: bool,
) -> tuple[State, State]:
    """As `elman.runtime.scan.scan` says, literally."""
    loop = _Loop(cell, weights, x, sequence, noise, reverse)
    history: list[State] = []
    for done, t in enumerate(reversed(range(len(x))) if reverse else range(len(x))):
        state = loop.step(done, t, state)
        history.append(state if all_states else state[:1])
    if reverse:
        history.reverse()
    parts = state if all_states else state[:1]
    if not history:
        return tuple(s.new_zeros(0, *s.shape) for s in parts), state
    stacked = tuple(torch.stack(part) for part in zip(*history, strict=True))
    return tuple(sequence.mask(part) for part in stacked), state


class _Loop:
    def __init__(
        self,
        cell: Cell,
        weights: dict[str, Tensor],
        x: Tensor,
        sequence: SequenceInfo,
        noise: Regularisation,
        reverse: bool,
    ) -> None:
        self.cell = bind(cell, weights, noise.state_mask)
        self.run = step_of(self.cell)
        self.sequence = sequence
        self.noise = noise
        self.reverse = reverse
        self.x = sequence.fill(x).unbind()
        self.initial = cell.initial_state(tuple(x.shape[1:-1]), x)
        valid = sequence.valid(len(x))
        self.valid = None if valid is None else valid.unbind()
        self.cut = self._cuts()

    def _cuts(self) -> list[Tensor] | None:
        """For each t, [B, 1] bool: nothing is carried into this step."""
        if self.sequence.reset is None:
            return None
        cuts = list(self.sequence.reset[..., None].unbind())
        if self.valid is not None:
            cuts = [cut & valid for cut, valid in zip(cuts, self.valid, strict=True)]
        # A cut before t parts t-1 from t: backwards it is met on the way from t to t-1.
        return [*cuts[1:], torch.zeros_like(cuts[0])] if self.reverse and cuts else cuts

    def step(self, done: int, t: int, state: State) -> State:
        old = state
        if self.cut is not None:
            old = tuple(
                torch.where(self.cut[t], start, s)
                for start, s in zip(self.initial, old, strict=True)
            )
        old = self._truncated(done, t, old)
        new = self._zoned_out(t, self._stepped(t, old), old)
        if self.valid is not None:
            new = tuple(torch.where(self.valid[t], n, s) for n, s in zip(new, state, strict=True))
        return new

    def _truncated(self, done: int, t: int, state: State) -> State:
        k = self.sequence.truncate
        if k is None:
            return state
        if self.reverse and self.sequence.lengths is not None:
            # Each row begins at its own end, so each counts its own steps.
            border = ((self.sequence.lengths - 1 - t) % k == 0)[:, None]
            return tuple(torch.where(border, s.detach(), s) for s in state)
        return tuple(s.detach() for s in state) if done % k == 0 else state

    def _zoned_out(self, t: int, new: State, old: State) -> State:
        if not self.noise.zoneout:
            return new
        parts = zip(new, old, self.noise.zoneout, strict=True)
        return tuple(_mixed(n, o, z[t] if isinstance(z, Tensor) else z) for n, o, z in parts)

    def _stepped(self, t: int, state: State) -> State:
        try:
            new = self.run(self.x[t], *state)
        except RuntimeError as error:
            note_shapes(error, self.cell, f"at t={t}", self.x[t], state)
            raise
        if not isinstance(new, Tensor | tuple | list):
            raise ShapeError(
                f"{step_line(self.cell)} must return the new state, a tensor or a tuple of "
                f"tensors, got {new!r}"
            )
        parts = as_tuple(new)
        self._check(parts, state)
        return parts

    def _check(self, new: State, old: State) -> None:
        names = list(self.cell.state_sizes)
        if len(new) != len(old):
            raise ShapeError(
                f"{step_line(self.cell)} the new state must have {len(old)} parts "
                f"({', '.join(names)}), got {len(new)}; return one tensor for each part declared"
            )
        for name, n, o in zip(names, new, old, strict=True):
            if n.shape != o.shape:
                raise ShapeError(
                    f"{step_line(self.cell)} state '{name}' must be {list(o.shape)}, got "
                    f"{list(n.shape)}; declare {name}={n.shape[-1] if n.dim() else 1} in "
                    "super().__init__, or return the declared size"
                )
            if n.dtype != o.dtype and not autocasts(o):
                raise ShapeError(
                    f"{step_line(self.cell)} state '{name}' must stay {o.dtype}, got {n.dtype}; "
                    f"return it as {name}.to(x.dtype)"
                )


def _mixed(new: Tensor, old: Tensor, zoneout: Tensor | float | None) -> Tensor:
    if isinstance(zoneout, Tensor):
        return torch.where(zoneout, old, new)
    return new if zoneout is None else new + zoneout * (old - new)
