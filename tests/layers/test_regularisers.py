"""What a layer drops while it trains, against loops that drop it by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import elman
from elman import cells
from elman.errors import BackendError, OptionError
from elman.layers.dropout import dropout
from tests.layers.zoo import I
from tests.support import (
    assert_close,
    assert_equal,
    assert_same,
    literal_loop,
    outputs_of,
    packed,
    parts,
    randomise,
    warm_state,
    zero_state,
)

T, B = 6, 3
RATES = {
    "input_dropout": {"input_dropout": 0.4},
    "state_dropout": {"state_dropout": 0.4},
    "zoneout": {"zoneout": 0.4},
    "zoneout of a part": {"zoneout": {"c": 0.4}},
    "weight_drop": {"weight_drop": 0.4},
}


def lstm(**rates):
    return elman.Recurrent(cells.LSTM(I, 4), **rates)


class Watched(elman.Cell):
    """Puts what its step was given into its state, to be read from there."""

    recurrent_weights = ("U.weight",)

    def __init__(self, size):
        super().__init__(size, h=size, seen=size, dropped=size, weight=size * size)
        self.U = torch.nn.Linear(size, size, bias=False)

    def step(self, x, h, seen, dropped, weight):
        dropped = self.drop_state(h)
        weight = self.U.weight.flatten().expand(*h.shape[:-1], -1)
        return torch.tanh(x + self.U(dropped) + 1), x, dropped, weight


def watched(size=30, **rates):
    """What the steps of one training run saw, by name: [T, B, ...]."""
    layer = elman.Recurrent(Watched(size), **rates)
    torch.manual_seed(1)
    _, _, states = layer(torch.ones(T, 20, size), return_states=True)
    return dict(zip(layer.cell.state_sizes, states, strict=True))


def test_input_dropout_is_the_same_at_all_steps():
    x = watched(input_dropout=0.25)["seen"]
    mask = x[0]
    assert_close(mask.unique(), torch.tensor([0, 4 / 3]))
    assert abs((mask == 0).double().mean() - 0.25) < 0.06
    assert_equal(x, mask.expand_as(x))
    assert not torch.equal(mask[0], mask[1])


def test_state_dropout_is_the_same_at_all_steps_and_falls_on_products_only():
    saw = watched(state_dropout=0.25)
    h, dropped = saw["h"][:-1], saw["dropped"][1:]
    mask = dropped[0] / h[0]
    assert_close(mask.unique(), torch.tensor([0, 4 / 3]))
    assert abs((mask == 0).double().mean() - 0.25) < 0.06
    assert_close(dropped, mask * h)
    assert not torch.equal(mask[0], mask[1])
    assert h.all()
    assert not saw["dropped"][0].any()


def test_state_dropout_of_a_gru_leaves_the_leak_alone():
    cell = randomise(cells.GRU(I, 4))
    layer = elman.Recurrent(cell, state_dropout=0.5)
    x = torch.randn(T, B, I)
    (start,) = warm_state(cell, B)
    torch.manual_seed(1)
    found, _ = layer(x, start)
    torch.manual_seed(1)
    mask = dropout(torch.ones(B, 4), 0.5, True)
    assert mask.any() and not mask.all()
    h, expected = start, []
    for x_t in x:
        r_x, z_x, n_x = F.linear(x_t, cell.weight_ih, cell.bias_ih).chunk(3, -1)
        r_h, z_h, n_h = F.linear(h * mask, cell.weight_hh, cell.bias_hh).chunk(3, -1)
        r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        h = z * h + (1 - z) * torch.tanh(n_x + r * n_h)
        expected.append(h)
    assert_same(found, torch.stack(expected), [start, *cell.parameters()])


@pytest.mark.parametrize("cell", [cells.Elman, cells.LSTM, cells.ProjectedLSTM, cells.MGU])
def test_state_dropout_equals_a_literal_loop_with_the_mask(cell):
    cell = randomise(cell(I, 4))
    layer = elman.Recurrent(cell, state_dropout=0.5)
    x, start = torch.randn(T, B, I), warm_state(cell, B)
    torch.manual_seed(1)
    outputs, state = layer(x, packed(start))
    torch.manual_seed(1)
    cell.state_mask = dropout(torch.ones(B, cell.output_size), 0.5, True)
    states, last = literal_loop(cell, x, start)
    assert_same((outputs, parts(state)), (outputs_of(states), last), [*cell.parameters()])
    cell.state_mask = None
    assert not torch.allclose(outputs, outputs_of(literal_loop(cell, x, start)[0]))


def zoneout_by_hand(cell, x, rates, keep):
    """The loop of Krueger et al.; keep(t, part, rate) is the share of the old value."""
    state, states = zero_state(cell, B), []
    for t in range(T):
        new = parts(cell.step(x[t], *state))
        shares = [keep(t, name, rates.get(name, 0.0)) for name in cell.state_sizes]
        state = tuple(z * o + (1 - z) * n for z, o, n in zip(shares, state, new, strict=True))
        states.append(state)
    return tuple(map(torch.stack, zip(*states, strict=True)))


@pytest.mark.parametrize("rates", [{"h": 0.3, "c": 0.3}, {"c": 0.5, "h": 0.05}, {"c": 0.5}])
def test_zoneout_in_evaluation_moves_each_unit_by_its_expectation(rates):
    layer = randomise(lstm(zoneout=rates)).eval()
    x = torch.randn(T, B, I)
    _, _, states = layer(x, return_states=True)
    expected = zoneout_by_hand(layer.cell, x, rates, lambda t, name, rate: rate)
    assert_same(states, expected, [*layer.parameters()])
    assert not torch.allclose(states[0], lstm_states(layer.cell, x)[0])


def lstm_states(cell, x):
    """The states without any regulariser."""
    return elman.Recurrent(cell)(x, return_states=True)[2]


def test_one_zoneout_rate_holds_for_all_parts():
    layer, by_name = lstm(zoneout=0.3), lstm(zoneout={"h": 0.3, "c": 0.3})
    by_name.load_state_dict(layer.state_dict())
    x = torch.randn(T, B, I)
    assert_equal(layer.eval()(x), by_name.eval()(x))


@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_zoneout_in_training_keeps_a_unit_or_takes_its_new_value(rate):
    size, batch = 50, 8
    cell = randomise(cells.LSTM(I, size))
    layer = elman.Recurrent(cell, zoneout={"c": rate})
    x = torch.randn(T, batch, I)
    _, _, states = layer(x, return_states=True)
    kept, old = 0, zero_state(cell, batch)
    for t in range(T):
        new = cell.step(x[t], *old)
        state = tuple(s[t] for s in states)
        assert_close(state[0], new[0])
        stays, moves = state[1] == old[1], (state[1] - new[1]).abs() < 1e-12
        assert (stays | moves).all()
        kept += stays.double().mean() / T
        old = state
    assert abs(kept - rate) < 0.05


def test_zoneout_draws_anew_at_each_step_and_for_each_sequence():
    size = 50
    layer = elman.Recurrent(randomise(cells.Elman(I, size)), zoneout=0.5)
    outputs, _ = layer(torch.randn(T, B, I))
    before = torch.cat((torch.zeros(1, B, size), outputs[:-1]))
    kept = (outputs == before).double()
    assert abs(kept.mean() - 0.5) < 0.1
    assert not torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[:, 0], kept[:, 1])


def test_weight_drop_zeros_recurrent_weights_only_and_rescales_the_rest():
    torch.manual_seed(1)
    cell = randomise(cells.LSTM(I, 40))
    layer = elman.Recurrent(cell, weight_drop=0.25)
    x = torch.randn(T, B, I)
    torch.manual_seed(1)
    found = layer(x)
    torch.manual_seed(1)
    thinned = dropout(cell.weight_hh, 0.25, True)
    assert abs((thinned == 0).double().mean() - 0.25) < 0.03
    before = cell.weight_hh.detach().clone()
    plain = cells.LSTM(I, 40)
    plain.load_state_dict(cell.state_dict() | {"weight_hh": thinned.detach()})
    assert_close(found, elman.Recurrent(plain)(x))
    assert torch.equal(cell.weight_hh, before)


def test_weight_drop_is_the_same_at_all_steps_and_reaches_a_submodule():
    weights = watched(weight_drop=0.25)["weight"]
    assert_equal(weights, weights[:1, :1].expand_as(weights))
    assert abs((weights[0, 0] == 0).double().mean() - 0.25) < 0.06


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("kind", [lstm, lambda **rates: elman.LSTM(I, 4, **rates)])
def test_what_is_dropped_depends_on_the_seed_alone(kind, name):
    layer, x = kind(**RATES[name]), torch.randn(T, B, I)

    def run(seed):
        torch.manual_seed(seed)
        return layer(x)

    assert_equal(run(1), run(1))
    assert not torch.equal(run(1)[0], run(2)[0])


@pytest.mark.parametrize("name", ["input_dropout", "state_dropout", "weight_drop"])
@pytest.mark.parametrize("kind", [lstm, lambda **rates: elman.LSTM(I, 4, **rates)])
def test_nothing_is_dropped_in_evaluation(kind, name):
    layer, plain = kind(**RATES[name]), kind()
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(T, B, I)
    assert not torch.allclose(layer(x)[0], plain(x)[0])
    assert_equal(layer.eval()(x), plain(x))


@pytest.mark.parametrize("name", RATES)
def test_torch_like_layers_drop_what_a_recurrent_layer_drops(name):
    layer, other = elman.LSTM(I, 4, **RATES[name]), lstm(**RATES[name])
    own = layer.state_dict()
    other.cell.load_state_dict({n: own[f"{n}_l0"] for n in other.cell.state_dict()})
    x = torch.randn(T, B, I)
    for mode in (True, False):
        torch.manual_seed(1)
        outputs, state = layer.train(mode)(x)
        torch.manual_seed(1)
        expected, last = other.train(mode)(x)
        assert_close((outputs, tuple(s[0] for s in state)), (expected, last))


class Stored(elman.Cell):
    """Its recurrent product is a function among its attributes."""

    recurrent_weights = ("weight_hh",)

    def __init__(self, of_method: bool) -> None:
        super().__init__(I, h=I)
        self.weight_hh = nn.Parameter(torch.randn(I, I))
        self.product = self._product if of_method else lambda h: h @ self.weight_hh

    def _product(self, h):
        return h @ self.weight_hh

    def step(self, x, h):
        return torch.tanh(x + self.product(h))


def test_weight_drop_reaches_a_stored_method_and_no_closure():
    layer, x = elman.Recurrent(Stored(True), weight_drop=0.9), torch.randn(5, 2, I)
    assert layer.plan().backend == "llvm"
    assert not torch.equal(layer(x)[0], layer.eval()(x)[0])
    with pytest.raises(OptionError, match="weight_drop: Stored.step does not read 'weight_hh'"):
        elman.Recurrent(Stored(False), weight_drop=0.9)


def test_a_stream_has_the_weights_of_a_stored_method_and_no_closure():
    layer, x = elman.Recurrent(Stored(True)), torch.randn(3, I)
    expected, stream = layer(x)[0], layer.stream()
    with torch.no_grad():
        layer.cell.weight_hh.zero_()
    assert_close(torch.stack([stream(x_t) for x_t in x]), expected)
    with pytest.raises(BackendError, match="refers to the cell by itself has to be a method"):
        elman.Recurrent(Stored(False)).stream()
