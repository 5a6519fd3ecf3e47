"""elman.RNN, LSTM and GRU wherever a program expects a torch.nn module."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import elman
from tests.layers.zoo import EVERY, built
from tests.support import assert_close, assert_equal, gradients, randomise

I, H, T, B = 3, 4, 7, 2
KINDS = [(elman.RNN, nn.RNN), (elman.LSTM, nn.LSTM), (elman.GRU, nn.GRU)]
IDS = ["rnn", "lstm", "gru"]


def pair(ours, theirs, **options):
    first, second = ours(I, H, **options), theirs(I, H, **options)
    first.load_state_dict(second.state_dict())
    return first, second


@pytest.fixture(params=KINDS, ids=IDS)
def kind(request):
    return request.param


def test_ours_are_instances_of_torchs(kind):
    ours, theirs = kind
    assert isinstance(ours(I, H), theirs)
    assert isinstance(ours(I, H), elman.layers.Layer)


def test_the_arguments_go_by_torchs_keywords(kind):
    layer, other = pair(*kind)
    x, hx = torch.randn(T, B, I), torch.randn(1, B, H)
    hx = (hx, torch.randn(1, B, H)) if isinstance(layer, nn.LSTM) else hx
    assert_close(layer(input=x, hx=hx), other(input=x, hx=hx))


def test_a_deep_copy_computes_the_same_and_shares_nothing(kind):
    layer, _ = pair(*kind, num_layers=2)
    x = torch.randn(T, B, I)
    twin = copy.deepcopy(layer)
    before = layer(x)
    assert_equal(twin(x), before)
    for parameter in twin.parameters():
        nn.init.zeros_(parameter)
    assert_equal(layer(x), before)
    assert not torch.equal(twin(x)[0], before[0])


def test_a_pickled_layer_computes_the_same(kind):
    ours, _ = kind
    layer = ours(I, H, num_layers=2, bidirectional=True, zoneout=0.25).eval()
    x = torch.randn(T, B, I)
    again = pickle.loads(pickle.dumps(layer))
    assert_equal(again(x), layer(x))
    assert again.regularisers == layer.regularisers


def by_state_dict(layer):
    """A layer of other values that has loaded what `torch.save` wrote."""
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    twin = randomise(copy.deepcopy(layer))
    twin.load_state_dict(torch.load(file, weights_only=True))
    return twin


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer)), by_state_dict],
    ids=["deepcopy", "pickle", "state_dict"],
)
def test_any_layer_that_has_run_is_copied_whole_and_shares_nothing(name, copied):
    layer, x = built(name), torch.randn(T, B, I)
    expected = layer(x)
    twin = copied(layer)
    assert_equal(twin(x), expected)
    found, right = (gradients(each(x), list(each.parameters())) for each in (twin, layer))
    assert_close(found, right)
    randomise(twin)
    assert_equal(layer(x), expected)


def test_flatten_parameters_changes_nothing(kind):
    layer, other = pair(*kind, num_layers=2)
    x = torch.randn(T, B, I)
    before = layer(x)
    layer.flatten_parameters()
    assert_equal(layer(x), before)
    assert_close(layer(x), other(x))


def test_weight_norm_computes_what_torch_computes(kind):
    layer, other = pair(*kind, num_layers=2)
    x = torch.randn(T, B, I, requires_grad=True)
    for module in (layer, other):
        weight_norm(module, "weight_hh_l0")
        with torch.no_grad():
            module.parametrizations.weight_hh_l0.original0.mul_(1.7)
    assert_close(layer(x), other(x))
    assert_close(
        gradients(layer(x), [x, *layer.parameters()]),
        gradients(other(x), [x, *other.parameters()]),
    )
    assert len([*layer.parameters()]) == len([*other.parameters()])


def test_a_parametrised_cell_runs_with_its_present_value():
    cell = elman.cells.LSTM(I, H)
    x = torch.randn(T, B, I)
    before, _ = elman.Recurrent(cell)(x)
    weight_norm(cell, "weight_hh")
    layer = elman.Recurrent(cell)
    assert_close(layer(x)[0], before)
    with torch.no_grad():
        cell.parametrizations.weight_hh.original0.mul_(2)
    state, expected = (torch.zeros(B, H), torch.zeros(B, H)), []
    for x_t in x:
        state = cell.step(x_t, *state)
        expected.append(state[0])
    assert_close(layer(x)[0], torch.stack(expected))
    assert not torch.allclose(layer(x)[0], before)


def test_two_layers_may_share_a_parameter(kind):
    ours, theirs = kind
    first, second = ours(H, H), ours(H, H)
    second.weight_hh_l0 = first.weight_hh_l0
    a, b = theirs(H, H), theirs(H, H)
    a.load_state_dict(first.state_dict())
    b.load_state_dict(second.state_dict())
    b.weight_hh_l0 = a.weight_hh_l0
    x = torch.randn(T, B, H)
    results = second(first(x)[0])[0], b(a(x)[0])[0]
    assert_close(*results)
    ours_grad = gradients(results[0], [first.weight_hh_l0])
    assert_close(ours_grad, gradients(results[1], [a.weight_hh_l0]))
    assert len([*nn.ModuleList([first, second]).parameters()]) == 7


def test_training_dropout_falls_between_the_layers_only(kind):
    ours, _ = kind
    layer = ours(I, H, num_layers=2, dropout=0.5)
    x = torch.randn(T, B, I)
    torch.manual_seed(1)
    first, _ = layer(x)
    torch.manual_seed(1)
    again, _ = layer(x)
    torch.manual_seed(2)
    other, _ = layer(x)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    below, above = ours(I, H), ours(H, H)
    own = layer.state_dict()
    below.load_state_dict({n: own[n] for n in below.state_dict()})
    above.load_state_dict({n: own[n.replace("l0", "l1")] for n in above.state_dict()})
    torch.manual_seed(1)
    dropped = nn.functional.dropout(below(x)[0], 0.5, training=True)
    assert_close(first, above(dropped)[0])
    layer.eval()
    assert_close(layer(x)[0], above(below(x)[0])[0])


def test_dropout_after_the_only_layer_warns_as_torch_does(kind):
    ours, _ = kind
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        ours(I, H, dropout=0.5)


def test_a_layer_moves_to_another_dtype(kind):
    layer, other = pair(*kind, num_layers=2)
    x = torch.randn(T, B, I, dtype=torch.float32)
    assert_close(layer.float()(x), other.float()(x))


def test_parameters_may_be_frozen_and_the_rest_still_learn(kind):
    layer, other = pair(*kind)
    x = torch.randn(T, B, I)
    for module in (layer, other):
        module.weight_hh_l0.requires_grad_(False)
        module(x)[0].square().sum().backward()
    assert layer.weight_hh_l0.grad is None
    assert_close(layer.weight_ih_l0.grad, other.weight_ih_l0.grad)


def test_results_ask_for_no_gradient_under_no_grad(kind):
    layer, _ = pair(*kind)
    with torch.no_grad():
        outputs, _ = layer(torch.randn(T, B, I))
    assert not outputs.requires_grad
