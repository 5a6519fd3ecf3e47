"""Truncated backpropagation through time: the same values, gradients over at most k steps."""

import pytest
import torch

import elman
from elman import cells
from tests.cells.cases import PLAIN
from tests.layers.zoo import EVERY, I, built
from tests.support import (
    assert_equal,
    assert_same,
    gradients,
    literal_loop,
    outputs_of,
    packed,
    parts,
    randomise,
    warm_state,
    zero_state,
)

T, B = 7, 3


@pytest.mark.parametrize("k", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_truncation_equals_a_literal_loop_with_detach(case, reverse, k):
    cell = case.build()
    x = torch.randn(T, B, I, requires_grad=True)
    start = warm_state(cell, B)
    states, last = literal_loop(cell, x, start, reverse=reverse, truncate=k)
    layer = elman.Recurrent(cell, reverse=reverse)
    outputs, state = layer(x, packed(start), truncate=k)
    wrt = [x, *start, *cell.parameters()]
    assert_same((outputs, parts(state)), (outputs_of(states), last), wrt)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("cell", [cells.LSTM, cells.GRU, cells.SLSTM])
def test_truncation_with_lengths_equals_each_sequence_alone(cell, reverse, k):
    cell = randomise(cell(I, 2))
    lengths = [7, 0, 4, 5, 1]
    x = torch.randn(T, len(lengths), I, requires_grad=True)
    start = warm_state(cell, len(lengths))
    found = elman.Recurrent(cell, reverse=reverse)(x, packed(start), lengths, truncate=k)
    for b, n in enumerate(lengths):
        own = tuple(s[b : b + 1] for s in start)
        states, last = literal_loop(cell, x[:n, b : b + 1], own, reverse=reverse, truncate=k)
        outputs = outputs_of(states) if n else x.new_zeros(0, 1, cell.output_size)
        mine = found[0][:n, b : b + 1], tuple(s[b : b + 1] for s in parts(found[1]))
        assert_same(mine, (outputs, last), [x, *start, *cell.parameters()])


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("name", EVERY)
def test_truncation_leaves_every_value_as_it_is(name, k):
    layer = built(name)
    x = torch.randn(T, B, I, requires_grad=True)
    (outputs, state), expected = layer(x, truncate=k), layer(x)
    assert_equal((outputs, state), expected)
    whole, cut = gradients(expected, [x]), gradients((outputs, state), [x])
    assert not torch.allclose(cut[0], whole[0])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_truncation_cuts_every_layer_of_a_deep_lstm(k):
    layer = randomise(elman.LSTM(I, 4, num_layers=2))
    x = torch.randn(T, B, I, requires_grad=True)
    expected = x
    for number in range(2):
        cell = cells.LSTM(expected.shape[-1], 4)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            delattr(cell, name)
            setattr(cell, name, getattr(layer, f"{name}_l{number}"))
        states, _ = literal_loop(cell, expected, zero_state(cell, B), truncate=k)
        expected = outputs_of(states)
    outputs, _ = layer(x, truncate=k)
    assert_same(outputs, expected, [x, *layer.parameters()])


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_no_gradient_flows_back_more_than_k_steps(reverse, k):
    layer = elman.Recurrent(cells.GRU(I, 4), reverse=reverse)
    x = torch.randn(T, B, I, requires_grad=True)
    outputs, _ = layer(x, truncate=k)
    for t in range(T):
        (gradient,) = torch.autograd.grad(outputs[t].sum(), x, retain_graph=True)
        reached = gradient.any(dim=-1).any(dim=-1).nonzero().flatten().tolist()
        done = T - 1 - t if reverse else t
        back = done % k + 1
        assert reached == (
            list(range(t, t + back)) if reverse else list(range(t - back + 1, t + 1))
        )


def test_truncation_counts_from_the_start_whatever_the_resets():
    cell = cells.GRU(I, 4)
    x = torch.randn(T, 1, I, requires_grad=True)
    reset = torch.zeros(T, 1, dtype=torch.bool)
    reset[3] = True
    first, middle = literal_loop(cell, x[:3], zero_state(cell, 1), truncate=2)
    assert not torch.allclose(middle[0], torch.zeros(1, 4))
    begun, state = literal_loop(cell, x[3:4], zero_state(cell, 1))
    rest, _ = literal_loop(cell, x[4:], state, truncate=2)
    outputs, _ = elman.Recurrent(cell)(x, reset=reset, truncate=2)
    expected = outputs_of([*first, *begun, *rest])
    assert_same(outputs, expected, [x, *cell.parameters()])


@pytest.mark.parametrize("backend", ["llvm", "eager", "loop"])
def test_a_truncated_call_does_not_ask_for_the_graph_of_the_state_it_is_given(backend):
    layer = elman.GRU(2, 3, backend=backend)
    _, state = layer(torch.randn(2, 4, 2))
    state.sum().backward()  # the graph of the state is gone
    x = torch.randn(5, 4, 2)
    outputs, _ = layer(x, state, truncate=3)
    outputs.sum().backward()
    expected = layer(x, state.detach(), truncate=3)[0]
    assert torch.equal(outputs, expected)
