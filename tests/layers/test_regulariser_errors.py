"""Rates that make no sense, or could have no effect on the cell."""

import pytest
import torch

import elman
from elman import cells
from elman.errors import OptionError

NAMES = ("input_dropout", "state_dropout", "zoneout", "weight_drop")


class Deaf(elman.Cell):
    """A step that never calls drop_state."""

    def __init__(self):
        super().__init__(3, h=4)
        self.W = torch.nn.Linear(3, 4)

    def step(self, x, h):
        return self.W(x) + 0.5 * h


@pytest.mark.parametrize("rate", [1.0, 1.5, -0.1, "0.5", None, True, float("nan")], ids=repr)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["Recurrent", "LSTM"])
def test_a_rate_outside_zero_to_one_is_refused(kind, name, rate):
    with pytest.raises(OptionError, match=rf"{name} must be a probability in \[0, 1\)"):
        if kind == "LSTM":
            elman.LSTM(3, 4, **{name: rate})
        else:
            elman.Recurrent(cells.LSTM(3, 4), **{name: rate})


def test_a_zoneout_rate_of_one_part_names_the_part():
    with pytest.raises(OptionError, match="zoneout c must be a probability"):
        elman.Recurrent(cells.LSTM(3, 4), zoneout={"h": 0.1, "c": 1.0})


@pytest.mark.parametrize(
    "build",
    [
        lambda: elman.Recurrent(cells.LSTM(3, 4), zoneout={"d": 0.5}),
        lambda: elman.LSTM(3, 4, zoneout={"d": 0.5}),
    ],
    ids=["Recurrent", "LSTM"],
)
def test_zoneout_of_an_unknown_part_lists_the_parts(build):
    with pytest.raises(OptionError, match=r"part for the zoneout of LSTM 'd': valid are h, c"):
        build()


@pytest.mark.parametrize("cell", [cells.MinGRU(3, 4), cells.MinLSTM(3, 4), cells.SRU(3, 4), Deaf()])
def test_state_dropout_of_a_cell_whose_state_enters_no_product_is_refused(cell):
    name = type(cell).__name__
    with pytest.raises(OptionError, match=rf"{name}.step never uses self.drop_state; write"):
        elman.Recurrent(cell, state_dropout=0.5)


@pytest.mark.parametrize("cell", [cells.MinGRU(3, 4), cells.SRU(3, 4), Deaf()])
def test_weight_drop_of_a_cell_without_recurrent_weights_is_refused(cell):
    with pytest.raises(OptionError, match=r"weight_drop: .* set recurrent_weights in the class"):
        elman.Recurrent(cell, weight_drop=0.5)


@pytest.mark.parametrize("name", sorted(cells.CELLS))
def test_every_cell_with_a_recurrent_product_takes_every_rate(name):
    cell = cells.CELLS[name](3, 4)
    has_product = bool(cell.recurrent_weights)
    rates = {"input_dropout": 0.3, "zoneout": 0.3}
    if has_product:
        rates |= {"state_dropout": 0.3, "weight_drop": 0.3}
    layer = elman.Recurrent(cell, **rates)
    x = torch.randn(5, 2, 3)
    outputs, _ = layer(x)
    assert outputs.isfinite().all()
    assert not torch.equal(outputs, layer(x)[0])
    assert has_product or name in ("min-gru", "min-lstm", "sru")


def test_state_dropout_is_not_left_behind_in_the_cell():
    cell = cells.LSTM(3, 4)
    x = torch.randn(5, 2, 3)
    before, _ = elman.Recurrent(cell)(x)
    elman.Recurrent(cell, state_dropout=0.5)(x)
    assert cell.state_mask is None
    assert torch.equal(elman.Recurrent(cell)(x)[0], before)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
def test_weight_drop_that_a_hook_would_undo_is_refused():
    layer, x = elman.Recurrent(cells.LSTM(3, 4), weight_drop=0.5), torch.randn(5, 2, 3)
    torch.nn.utils.weight_norm(layer.cell, "weight_hh")
    with pytest.raises(OptionError, match="computes 'weight_hh' before each step"):
        layer(x)
    layer.eval()(x)
    plain = elman.Recurrent(cells.LSTM(3, 4), weight_drop=0.5)
    torch.nn.utils.parametrizations.weight_norm(plain.cell, "weight_hh")
    plain(x)
