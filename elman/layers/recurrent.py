"""A cell, lifted over time."""

from collections.abc import Mapping
from collections.abc import Sequence as Several
from typing import Any

from torch import Tensor

from elman.cells.cell import Cell, State, as_returned, as_tuple, weights_of
from elman.cells.checking import require_pure
from elman.errors import OptionError
from elman.layers.layer import Layer, check_state, check_weights
from elman.layers.plan import PlanReport, plan_cell
from elman.layers.regularisers import Regularisers
from elman.layers.steps import Steps, stepper, steps_of
from elman.runtime.custom_op.operators import being_traced, compiled_scan
from elman.runtime.scan import AUTOMATIC, Execution, Scan, SequenceInfo, scan_all


def sweep(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    sequence: SequenceInfo,
    *,
    reverse: bool,
    regularisers: Regularisers,
    training: bool,
    all_states: bool,
    execution: Execution,
) -> Scan:
    """One direction of one layer, with what the regularisers drop."""
    if training:
        x = regularisers.drop_input(x)
        weights = regularisers.drop_weights(cell, weights)
    noise = regularisers.noise(cell, x, training)
    return Scan(cell, weights, x, state, sequence, noise, reverse, all_states, execution)


def swept(sweeps: Several[Scan]) -> list[tuple[State, State]]:
    """Run the directions of one layer: `scan_all`."""
    if not being_traced():
        return scan_all(sweeps)
    return [
        compiled_scan(
            one.cell, one.weights, one.x, one.state, sequence=one.sequence, noise=one.noise,
            reverse=one.reverse, all_states=one.all_states, execution=one.execution,
        )
        for one in sweeps
    ]  # fmt: skip


class Recurrent(Layer):
    """Any cell as a layer: ``outputs, state = Recurrent(cell)(x)``.

        state_t = step(x_t, *state_{t-1}),   outputs_t = the first part of state_t

    x: [T, B, I]   ->   outputs: [T, B, O], state: as ``cell.step`` returns it, parts [B, S]
    cell: an `elman.Cell`.
    reverse: walk from the last step to the first. batch_first: [B, T, I] instead of [T, B, I].
    input_dropout, state_dropout, zoneout, weight_drop: see `Regularisers`.
    backend, memory, deterministic: what runs it and how, see `Execution`.
    """

    def __init__(
        self,
        cell: Cell,
        reverse: bool = False,
        batch_first: bool = False,
        *,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
        zoneout: float | Mapping[str, float] = 0.0,
        weight_drop: float = 0.0,
        backend: str = "auto",
        memory: str | int = "auto",
        deterministic: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(cell, Cell):
            raise OptionError(
                f"Recurrent lifts an elman.Cell, got {cell!r}; derive your cell from elman.Cell "
                "and pass an instance of it"
            )
        require_pure(cell)
        self.cell = cell
        self.reverse = reverse
        self.batch_first = batch_first
        self.regularisers = Regularisers(input_dropout, state_dropout, zoneout, weight_drop)
        self.regularisers.check(cell)
        self.execution = Execution(backend, memory, deterministic)

    @property
    def input_size(self) -> int:  # type: ignore[override]
        return self.cell.input_size

    @property
    def output_size(self) -> int:
        return self.cell.output_size

    def run(
        self, x: Tensor, state: Any, sequence: SequenceInfo, all_states: bool = False
    ) -> tuple[Tensor, Any, Any]:
        return self.results(*swept([self.sweep(x, state, sequence, all_states)]))

    def sweep(self, x: Tensor, state: Any, sequence: SequenceInfo, all_states: bool) -> Scan:
        """What `run` runs."""
        weights = weights_of(self.cell)
        check_weights(type(self.cell).__name__, weights, x)
        return sweep(
            self.cell,
            weights,
            x,
            self._parts(state, x),
            sequence,
            reverse=self.reverse,
            regularisers=self.regularisers,
            training=self.training,
            all_states=all_states,
            execution=self.execution,
        )

    @staticmethod
    def results(found: tuple[State, State]) -> tuple[Tensor, Any, Any]:
        """What `run` returns."""
        states, last = found
        return states[0], as_returned(last), as_returned(states)

    def plan(self, *, batch_size: int = 16, training: bool | None = None) -> PlanReport:
        training = self.training if training is None else training
        return PlanReport(
            (
                plan_cell(
                    self.cell,
                    weights_of(self.cell),
                    self.regularisers,
                    self.execution,
                    training=training,
                    batch_size=batch_size,
                ),
            )
        )

    def _parts(self, state: Any, x: Tensor) -> State:
        batch, name = tuple(x.shape[1:-1]), type(self.cell).__name__
        if state is None:
            if type(self.cell).initial_state is Cell.initial_state:
                return self.cell.initial_state(batch, x)
            state, name = self.cell.initial_state(batch, x), f"{name}.initial_state"
        parts = as_tuple(state)
        sizes = {part: [*batch, size] for part, size in self.cell.state_sizes.items()}
        check_state(name, parts, sizes, x)
        return parts

    def example(self) -> Tensor | None:
        own = next(iter(self.cell._parameters.values()), None)
        return super().example() if own is None else own

    def steps(self, state: Any, x: Tensor) -> Steps:
        noise = self.regularisers.noise(self.cell, x[None], training=False)
        given, weights = self._parts(state, x[None]), weights_of(self.cell)
        return steps_of(stepper(self.cell, weights, noise, given, self.execution))

    def check_streams(self) -> None:
        super().check_streams()
        self.regularisers.check_streams(self._name, self.training)

    def extra_repr(self) -> str:
        flags = [name for name in ("reverse", "batch_first") if getattr(self, name)]
        more = options_of(self.regularisers, self.execution)
        return ", ".join([f"{flag}=True" for flag in flags] + more)


def options_of(regularisers: Regularisers, execution: Execution) -> list[str]:
    """What of these is not as it is without being asked for, as a call would say it."""
    rates = {k: v for k, v in vars(regularisers).items() if v}
    asked = {k: v for k, v in vars(execution).items() if v != getattr(AUTOMATIC, k)}
    return [f"{name}={value!r}" for name, value in (rates | asked).items()]
