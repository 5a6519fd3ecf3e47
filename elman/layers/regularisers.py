"""The regularisers of recurrent networks: drawn once a sequence, applied at every step."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from elman.backends.sequence import Regularisation
from elman.cells.cell import Cell, state_mask_reaches, weight_reaches, weights_of
from elman.cells.hooks import computed_by_hook
from elman.errors import OptionError, require_probability, unknown
from elman.layers.dropout import chosen, dropout


@dataclass(frozen=True)
class Regularisers:
    """The rates of what a layer drops while it trains; all 0 means nothing.

    input_dropout: share of the inputs, the same for all steps of a sequence.
    state_dropout: share of the output part of the state where it enters a recurrent product
        (`Cell.drop_state`), the same for all steps.
    zoneout: share of the units that keep their old value, drawn for each step; a number for all
        parts of the state (`Cell.zoneout_parts`), or one by name, as {"c": 0.5, "h": 0.05}. In
        evaluation each unit moves by its expectation.
    weight_drop: share of the recurrent weights (`Cell.recurrent_weights`), for a whole call.

    Sources: Gal & Ghahramani 2016 (variational dropout); Krueger et al. 2017
    (zoneout); Merity et al. 2018, section 2 (weight drop).
    """

    input_dropout: float = 0.0
    state_dropout: float = 0.0
    zoneout: float | Mapping[str, float] = 0.0
    weight_drop: float = 0.0

    def __post_init__(self) -> None:
        require_probability(
            input_dropout=self.input_dropout,
            state_dropout=self.state_dropout,
            weight_drop=self.weight_drop,
        )
        rates = self.zoneout if isinstance(self.zoneout, Mapping) else {"": self.zoneout}
        require_probability(**{f"zoneout {part}".strip(): rate for part, rate in rates.items()})

    def check(self, cell: Cell) -> None:
        """Raise OptionError where a rate could have no effect on this cell."""
        name = type(cell).__name__
        self.check_parts(cell)
        if self.weight_drop:
            missing = [w for w in cell.recurrent_weights if w not in weights_of(cell)]
            if missing or not cell.recurrent_weights:
                raise OptionError(
                    f"weight_drop: {name} names its recurrent weights {cell.recurrent_weights!r}, "
                    f"but its weights are {', '.join(weights_of(cell))}; set recurrent_weights in "
                    "the class, or weight_drop=0"
                )
            unread = next((w for w in cell.recurrent_weights if not weight_reaches(cell, w)), None)
            if unread is not None:
                raise OptionError(
                    f"weight_drop: {name}.step does not read '{unread}' of the cell that it is "
                    "given; a function among the attributes that refers to the cell by itself has "
                    "to be a method"
                )
        if self.state_dropout and not state_mask_reaches(cell):
            raise OptionError(
                f"state_dropout: {name}.step never uses self.drop_state; write "
                f"self.drop_state({next(iter(cell.state_sizes))}) where it enters a product, or "
                "use zoneout or weight_drop"
            )

    def check_parts(self, cell: Cell) -> None:
        """Raise OptionError where zoneout names a part of the state that the cell has not."""
        allowed = _zoneout_parts(cell)
        for part in self.zoneout if isinstance(self.zoneout, Mapping) else ():
            if part not in allowed:
                raise unknown(f"part for the zoneout of {type(cell).__name__}", part, allowed)

    def check_streams(self, layer: str, training: bool) -> None:
        """Raise OptionError where something is drawn once a sequence, which a step is not."""
        if training and (self.input_dropout or self.state_dropout or self.weight_drop):
            raise OptionError(
                f"{layer}.step: dropout that is drawn once a sequence cannot be stepped; call "
                "layer.eval() first, or run the whole sequence"
            )

    def drop_input(self, x: Tensor) -> Tensor:
        """x: [T, B, I] with one mask [B, I] for all steps."""
        rate = _rate(self, "input_dropout")
        return x * dropout(x.new_ones(x.shape[1:]), rate, True) if rate else x

    def drop_weights(self, cell: Cell, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights with a share of the recurrent ones left out.

        Raises OptionError where a hook would put them back."""
        rate = _rate(self, "weight_drop")
        if not rate:
            return weights
        undone = _undone(cell)
        if undone:
            raise OptionError(
                f"weight_drop: a hook of {type(cell).__name__} computes '{undone}' before each "
                "step, whatever was dropped; use torch.nn.utils.parametrizations instead of the "
                "hook, or weight_drop=0"
            )
        return weights | {
            name: dropout(weights[name], rate, True) for name in cell.recurrent_weights
        }

    def noise(self, cell: Cell, x: Tensor, training: bool) -> Regularisation:
        """What the loop needs for x: [T, B, I]."""
        batch = x.shape[1:-1]
        mask = None
        rate = _rate(self, "state_dropout")
        if training and rate:
            mask = dropout(x.new_ones(*batch, cell.output_size), rate, True)
        return Regularisation(mask, self._zoneout(cell, x, training))

    def _zoneout(self, cell: Cell, x: Tensor, training: bool) -> tuple[Tensor | float | None, ...]:
        def kept(size: int, rate: float) -> Tensor:
            return chosen(torch.Size([*x.shape[:-1], size]), rate, x.device)

        pairs = zip(cell.state_sizes.values(), _zoneout_rates(self, cell), strict=False)
        return tuple(
            [None if not rate else kept(size, rate) if training else rate for size, rate in pairs]
        )


def _rate(regularisers: Regularisers, name: str) -> float:
    return getattr(regularisers, name)


def _zoneout_rates(regularisers: Regularisers, cell: Cell) -> tuple[float, ...]:
    """One for each part of the state; none where nothing is zoned out."""
    zoneout = regularisers.zoneout
    if not zoneout:
        return ()
    if isinstance(zoneout, Mapping):
        return tuple(zoneout.get(part, 0.0) for part in cell.state_sizes)
    allowed = _zoneout_parts(cell)
    return tuple(zoneout if part in allowed else 0.0 for part in cell.state_sizes)


def _undone(cell: Cell) -> str:
    """The recurrent weight that a hook would put back; "" where there is none."""
    return next((name for name in cell.recurrent_weights if computed_by_hook(cell, name)), "")


# To torch.compile rates are constants: what is compiled depends on them.
_rate._dynamo_marked_constant = True  # type: ignore[attr-defined]
_zoneout_rates._dynamo_marked_constant = True  # type: ignore[attr-defined]
_undone._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _zoneout_parts(cell: Cell) -> tuple[str, ...]:
    return tuple(cell.state_sizes) if cell.zoneout_parts is None else cell.zoneout_parts
