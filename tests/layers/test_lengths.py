"""Sequences of different lengths in one batch."""

import pytest
import torch
import torch.nn.functional as F

import elman
from elman import cells
from tests.cells.cases import PLAIN
from tests.layers.zoo import EVERY, beside, built, rows, some_state
from tests.support import (
    assert_close,
    assert_equal,
    assert_same,
    gradients,
    leaves,
    literal_loop,
    mapped,
    outputs_of,
    packed,
    parts,
    warm_state,
)

T = 5
LENGTHS = [3, 0, 5, 1, 3]
B = len(LENGTHS)


def padded(outputs, size):
    """[n, 1, O] -> [T, 1, O], with zeros after the end."""
    return F.pad(outputs, (0, 0, 0, 0, 0, size - len(outputs)))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_lengths_equal_a_literal_loop_over_each_sequence_alone(case, reverse):
    cell = case.build()
    layer = elman.Recurrent(cell, reverse=reverse)
    x = torch.randn(T, B, 3, requires_grad=True)
    start = warm_state(cell, B)
    outputs, last = [], []
    for b, n in enumerate(LENGTHS):
        own = tuple(s[b : b + 1] for s in start)
        states, end = literal_loop(cell, x[:n, b : b + 1], own, reverse=reverse)
        alone = outputs_of(states) if n else x.new_zeros(0, 1, cell.output_size)
        outputs.append(padded(alone, T))
        last.append(end)
    expected = torch.cat(outputs, dim=1), tuple(map(torch.cat, zip(*last, strict=True)))
    found, state = layer(x, packed(start), lengths=LENGTHS)
    assert_same((found, parts(state)), expected, [x, *start, *cell.parameters()])


@pytest.mark.parametrize("name", EVERY)
def test_lengths_equal_each_sequence_alone(name):
    layer = built(name)
    x = torch.randn(T, B, 3, requires_grad=True)
    start = some_state(layer, B)
    alone = [layer(x[:n, b : b + 1], rows(start, layer, b)) for b, n in enumerate(LENGTHS)]
    expected = (
        torch.cat([padded(outputs, T) for outputs, _ in alone], dim=1),
        beside([state for _, state in alone], layer),
    )
    assert_same(
        layer(x, start, lengths=LENGTHS), expected, [x, *leaves(start), *layer.parameters()]
    )


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", EVERY)
def test_what_stands_in_the_padding_changes_nothing(name, poison):
    layer = built(name)
    clean = torch.randn(T, B, 3)
    beyond = torch.arange(T)[:, None] >= torch.tensor(LENGTHS)
    clean[beyond] = 0
    dirty = clean.clone()
    dirty[beyond] = poison
    results, found = [], []
    for x in (clean.requires_grad_(), dirty.requires_grad_()):
        results.append(layer(x, lengths=LENGTHS))
        found.append(gradients(results[-1], [x, *layer.parameters()]))
    assert_equal(results[1], results[0])
    assert_equal(found[1], found[0])
    assert all(g.isfinite().all() for g in found[1])
    assert not found[1][0][beyond].any()
    assert found[1][0][~beyond].all(dim=-1).any()


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_nan_in_the_padding_reaches_no_gradient_of_any_cell(case):
    layer = elman.Recurrent(case.build())
    x = torch.randn(T, B, 3)
    beyond = torch.arange(T)[:, None] >= torch.tensor(LENGTHS)
    expected = layer(x, lengths=LENGTHS)
    x[beyond] = float("nan")
    results = layer(x, lengths=LENGTHS)
    assert_equal(results, expected)
    wrt = [*layer.parameters()]
    assert_equal(gradients(results, wrt), gradients(expected, wrt))
    assert all(g.isfinite().all() for g in gradients(results, wrt))


@pytest.mark.parametrize("name", EVERY)
def test_outputs_past_the_end_are_zero_and_gradients_stop_there(name):
    layer = built(name)
    x = torch.randn(T, B, 3, requires_grad=True)
    outputs, _ = layer(x, lengths=LENGTHS)
    for b, n in enumerate(LENGTHS):
        assert not outputs[n:, b].any()
        assert outputs[:n, b].any(dim=-1).all()
    (gradient,) = torch.autograd.grad(outputs.sum(), x)
    for b, n in enumerate(LENGTHS):
        assert not gradient[n:, b].any()
        assert gradient[:n, b].any(dim=-1).all()


@pytest.mark.parametrize("name", EVERY)
def test_a_sequence_of_length_zero_keeps_its_state(name):
    layer = built(name)
    start = some_state(layer, B)
    outputs, state = layer(torch.randn(T, B, 3), start, lengths=[0] * B)
    assert_equal(state, mapped(torch.Tensor.detach, start))
    assert not outputs.any()


@pytest.mark.parametrize(
    "form",
    [list, torch.tensor, lambda n: torch.tensor(n, dtype=torch.int32), tuple],
    ids=["list", "int64", "int32", "tuple"],
)
def test_lengths_come_as_a_list_or_a_tensor(form):
    layer = built("LSTM bidirectional")
    x = torch.randn(T, B, 3)
    assert_equal(layer(x, lengths=form(LENGTHS)), layer(x, lengths=torch.tensor(LENGTHS)))


@pytest.mark.parametrize("name", EVERY)
def test_full_lengths_change_nothing(name):
    layer = built(name)
    x = torch.randn(T, B, 3)
    assert_close(layer(x, lengths=[T] * B), layer(x))


def test_lengths_go_with_batch_first():
    cell = cells.GRU(3, 4)
    x = torch.randn(B, T, 3)
    outputs, state = elman.Recurrent(cell, batch_first=True)(x, lengths=LENGTHS)
    expected, last = elman.Recurrent(cell)(x.transpose(0, 1), lengths=LENGTHS)
    assert_equal((outputs.transpose(0, 1), state), (expected, last))


def test_one_sequence_without_a_batch_axis_takes_one_length():
    layer = elman.Recurrent(cells.LSTM(3, 4), reverse=True)
    x = torch.randn(T, 3)
    outputs, state = layer(x, lengths=[2])
    expected, last = layer(x[:2])
    assert_close((outputs[:2], state), (expected, last))
    assert not outputs[2:].any()


def test_lengths_of_an_empty_batch_may_be_an_empty_list():
    outputs, state = elman.Recurrent(cells.GRU(3, 4))(torch.randn(T, 0, 3), lengths=[])
    assert outputs.shape == (T, 0, 4)
    assert state.shape == (0, 4)
