"""The one border between torch and the engine that runs a cell over time."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from elman.cells.cell import Cell, State, as_tuple, bind
from elman.cells.checking import note_shapes, step_line
from elman.errors import ShapeError


@dataclass(frozen=True)
class Sequence:
    """What is known of a batch of sequences beside their values.

    lengths: [B] int64, the valid steps of each; None: all.
    reset: [T, B] bool, a cut before step t that nothing is carried across; None: no cut.
    truncate: k, so that no gradient flows back more than k steps; None: all the way.
    """

    lengths: Tensor | None = None
    reset: Tensor | None = None
    truncate: int | None = None

    def valid(self, steps: int) -> Tensor | None:
        """[T, B, 1] bool: which steps are inside their sequence."""
        if self.lengths is None:
            return None
        t = torch.arange(steps, device=self.lengths.device)
        return (t[:, None] < self.lengths)[..., None]

    def fill(self, x: Tensor) -> Tensor:
        """x: [T, B, I] with each sequence's own first step repeated past its end.

        A step may divide by x or take its logarithm: a value that it is made for harms no
        gradient, where a zero may. Sequences without a step are filled with ones.
        """
        valid = self.valid(x.shape[0])
        if valid is None or not len(x):
            return x
        return torch.where(valid, x, torch.where(valid[0], x[0], 1).detach())

    def mask(self, x: Tensor) -> Tensor:
        """x: [T, B, ...] with zeros past the end of each sequence."""
        valid = self.valid(x.shape[0])
        return x if valid is None else torch.where(valid, x, x.new_zeros(()))


@dataclass(frozen=True)
class Noise:
    """What regularisers do inside the loop, drawn before it.

    state_mask: [B, S] factors on the output part of the state where it enters a product.
    zoneout: for each part [T, B, S] bool, which units keep their old value; or a rate in [0, 1),
        the share of the old value that stays (evaluation); or None. Empty: none for any part.
    """

    state_mask: Tensor | None = None
    zoneout: tuple[Tensor | float | None, ...] = field(default=())


def scan(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    *,
    sequence: Sequence | None = None,
    noise: Noise | None = None,
    reverse: bool = False,
    all_states: bool = False,
) -> tuple[State, State]:
    """Run a cell over time.

        for t in 0 ... T-1, or T-1 ... 0 where reverse:
            old   = initial where a cut lies between this step and the one before, else state
            old   = stop_gradient(old) where the number of steps done is a multiple of truncate
            new   = zoneout(step(x[t], *old), old)
            state = new where t < lengths, else state
            states[t] = new where t < lengths, else 0

    x: [T, B, I]   state: parts [B, S]   ->   (states: parts [T, B, S], state: parts [B, S])
    weights: what stands in place of the cell's parameters, as `weights_of` names them.
    all_states: return every part at every step, not the first alone.

    Raises ShapeError where the step returns a state of other shapes than it was given.
    """
    loop = _Loop(cell, weights, x, sequence or Sequence(), noise or Noise(), reverse)
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
    return tuple(loop.sequence.mask(part) for part in stacked), state


class _Loop:
    """The literal loop: one call of ``cell.step`` a time step, under torch autograd."""

    def __init__(
        self,
        cell: Cell,
        weights: dict[str, Tensor],
        x: Tensor,
        sequence: Sequence,
        noise: Noise,
        reverse: bool,
    ) -> None:
        self.cell = bind(cell, weights, noise.state_mask)
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
            new = self.cell.step(self.x[t], *state)
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
            if n.dtype != o.dtype and not torch.is_autocast_enabled(o.device.type):
                raise ShapeError(
                    f"{step_line(self.cell)} state '{name}' must stay {o.dtype}, got {n.dtype}; "
                    f"return it as {name}.to(x.dtype)"
                )


def _mixed(new: Tensor, old: Tensor, zoneout: Tensor | float | None) -> Tensor:
    if isinstance(zoneout, Tensor):
        return torch.where(zoneout, old, new)
    return new if zoneout is None else new + zoneout * (old - new)
