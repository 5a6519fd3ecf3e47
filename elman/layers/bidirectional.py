"""Two layers that read a sequence from both ends."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from elman.backends.sequence import SequenceInfo
from elman.cells.cell import Cell
from elman.errors import OptionError, unknown
from elman.layers.layer import Layer, parts_of
from elman.layers.plan import PlanReport, plan_both
from elman.layers.recurrent import Recurrent, swept
from elman.layers.stack import as_layer


class Bidirectional(Layer):
    """A layer that reads forwards beside one that reads backwards.

        outputs_t = [forward_t, backward_t]      merge="concat"
        outputs_t = forward_t + backward_t       merge="sum"

    x: [T, B, I]   ->   outputs: [T, B, O_f + O_b] or [T, B, O], state: (forward's, backward's)
    forward, backward: layers (the second reverse) or cells; a `Stack` makes a bidirectional
        stack, and a stack may hold bidirectional layers.
    batch_first: for cells; layers bring their own.

    Source: Schuster & Paliwal 1997, Bidirectional Recurrent Neural Networks.
    """

    def __init__(
        self,
        forward: Layer | Cell,
        backward: Layer | Cell,
        merge: str = "concat",
        *,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        if merge not in ("concat", "sum"):
            raise unknown("merge", merge, ("concat", "sum"))
        self.forward_layer = as_layer(forward, batch_first=batch_first)
        self.backward_layer = as_layer(backward, reverse=True, batch_first=batch_first)
        self.merge = merge
        self._check()

    def _check(self) -> None:
        ahead, back = self.forward_layer, self.backward_layer
        if ahead.reverse or not back.reverse:
            raise OptionError(
                "Bidirectional: the first layer must read forwards and the second be built with "
                f"reverse=True, got reverse={ahead.reverse} and {back.reverse}"
            )
        if ahead.input_size != back.input_size or ahead.batch_first != back.batch_first:
            raise OptionError(
                "Bidirectional: both layers must have the same input_size and batch_first, got "
                f"{ahead.input_size}, {ahead.batch_first} and {back.input_size}, {back.batch_first}"
            )
        if self.merge == "sum" and ahead.output_size != back.output_size:
            raise OptionError(
                f"Bidirectional: merge='sum' needs equal outputs, got {ahead.output_size} and "
                f"{back.output_size}; use merge='concat'"
            )

    @property
    def input_size(self) -> int:  # type: ignore[override]
        return self.forward_layer.input_size

    @property
    def batch_first(self) -> bool:  # type: ignore[override]
        return self.forward_layer.batch_first

    @property
    def output_size(self) -> int:
        ahead, back = self.forward_layer.output_size, self.backward_layer.output_size
        return ahead + back if self.merge == "concat" else ahead

    @property
    def _recurrent(self) -> tuple[Recurrent, Recurrent] | None:
        """Both layers, where each is one loop: those can run at the same time."""
        one, other = self.forward_layer, self.backward_layer
        if not (isinstance(one, Recurrent) and isinstance(other, Recurrent)):
            return None
        # A subclass may run something else.
        own = type(one).run is not Recurrent.run or type(other).run is not Recurrent.run
        return None if own else (one, other)

    def run(
        self, x: Tensor, state: Any, sequence: SequenceInfo, all_states: bool = False
    ) -> tuple[Tensor, Any, Any]:
        first, second = parts_of("Bidirectional", state, 2, "(forward's, backward's)")
        pair = self._recurrent
        if pair is None:
            found = [
                self.forward_layer.run(x, first, sequence, all_states),
                self.backward_layer.run(x, second, sequence, all_states),
            ]
        else:
            sweeps = [
                layer.sweep(x, start, sequence, all_states)
                for layer, start in zip(pair, (first, second), strict=True)
            ]
            found = [Recurrent.results(each) for each in swept(sweeps)]
        (ahead, ahead_state, ahead_states), (back, back_state, back_states) = found
        outputs = torch.cat((ahead, back), dim=-1) if self.merge == "concat" else ahead + back
        return outputs, (ahead_state, back_state), (ahead_states, back_states)

    def plan(self, *, batch_size: int = 16, training: bool | None = None) -> PlanReport:
        layers = self.forward_layer, self.backward_layer
        ahead, back = (layer.plan(batch_size=batch_size, training=training) for layer in layers)
        pair = self._recurrent
        if pair is not None:
            executions = [layer.execution for layer in pair]
            cells = plan_both((*ahead.cells, *back.cells), batch_size, *executions)
            ahead, back = (PlanReport((cell,)) for cell in cells)
        return PlanReport((*ahead.below("forward_layer"), *back.below("backward_layer")))

    def over_batch_axis(self, change: Callable[[Tensor, int], Tensor], state: Any) -> Any:
        if state is None:
            return None
        first, second = parts_of("Bidirectional", state, 2, "(forward's, backward's)")
        return (
            self.forward_layer.over_batch_axis(change, first),
            self.backward_layer.over_batch_axis(change, second),
        )

    def check_streams(self) -> None:
        raise OptionError(
            "Bidirectional.step: the backward half needs the whole sequence; call layer(x) instead"
        )

    def extra_repr(self) -> str:
        return f"merge={self.merge!r}"
