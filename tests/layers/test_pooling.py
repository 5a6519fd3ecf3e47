"""Every kind of pooling against a loop over sequences."""

import pytest
import torch

import elman
from elman.cells import GRU, LSTM
from elman.errors import OptionError, ShapeError
from elman.layers import Bidirectional, Pooling, Recurrent, Stack
from elman.layers.pooling import KINDS
from tests.support import assert_close, assert_equal, gradients

LENGTHS = [3, 0, 7, 1]


def one(pooling, x):
    """The definition, on the valid steps [n, O] of one sequence."""
    if not len(x):
        return torch.zeros(x.shape[1])
    if pooling.kind == "last":
        return torch.cat((x[-1, : pooling.forward_size], x[0, pooling.forward_size :]))
    if pooling.kind == "mean":
        return sum(x[t] for t in range(len(x))) / len(x)
    if pooling.kind == "max":
        return x.max(dim=0).values
    scores = torch.stack([pooling.score.weight[0] @ (pooling.key.weight @ u).tanh() for u in x])
    return (scores.exp() / scores.exp().sum()) @ x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("forward_size", [0, 2, 5])
def test_values_and_gradients_are_those_of_each_sequence_alone(kind, forward_size):
    pooling = Pooling(5, kind, forward_size=forward_size)
    x = torch.randn(7, 4, 5, requires_grad=True)
    expected = torch.stack([one(pooling, x[:n, b]) for b, n in enumerate(LENGTHS)])
    actual = pooling(x, LENGTHS)
    assert_close(actual, expected)
    wrt = (x, *pooling.parameters())
    assert_close(gradients(actual, wrt), gradients(expected, wrt))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, -1e300])
def test_padding_changes_nothing(kind, garbage):
    pooling = Pooling(5, kind, forward_size=2)
    x = torch.randn(7, 4, 5)
    outside = torch.arange(7)[:, None] >= torch.tensor(LENGTHS)
    dirty = x.masked_fill(outside[..., None], garbage).requires_grad_()
    x.requires_grad_()
    clean, found = pooling(x, LENGTHS), pooling(dirty, torch.tensor(LENGTHS))
    assert_equal(found, clean)
    assert_equal(found[1], torch.zeros(5))
    expected = gradients(clean, (x, *pooling.parameters()))
    assert_equal(gradients(found, (dirty, *pooling.parameters())), expected)
    assert not expected[0][outside].any()


@pytest.mark.parametrize("kind", KINDS)
def test_without_lengths_every_step_is_valid(kind):
    pooling = Pooling(5, kind, forward_size=2)
    x = torch.randn(7, 4, 5)
    assert_close(pooling(x), pooling(x, [7] * 4))
    assert_equal(pooling(x[:0]), torch.zeros(4, 5))
    assert_equal(pooling(x[:0], [0] * 4), torch.zeros(4, 5))
    assert pooling(x[:, :0], []).shape == (0, 5)


def test_last_is_where_each_direction_has_seen_everything():
    layer = Stack([Bidirectional(GRU(3, 4), GRU(3, 4)), Bidirectional(LSTM(8, 2), LSTM(8, 5))])
    outputs, state = layer(torch.randn(7, 4, 3), lengths=LENGTHS)
    (ahead, _), (back, _) = state[-1]
    expected = torch.cat((ahead, back), dim=-1)
    assert_equal(Pooling.of(layer)(outputs, LENGTHS), expected)
    assert expected[0].all()


@pytest.mark.parametrize("reverse", [False, True])
def test_last_of_one_direction_is_its_last_state(reverse):
    layer = Recurrent(GRU(3, 4), reverse=reverse)
    outputs, h = layer(torch.randn(7, 4, 3), lengths=LENGTHS)
    assert_equal(Pooling.of(layer)(outputs, LENGTHS), h)


def test_summed_directions_have_no_last_step():
    layer = Bidirectional(GRU(3, 4), GRU(3, 4), merge="sum")
    with pytest.raises(OptionError, match="merge='concat'"):
        Pooling.of(Stack([layer]))
    assert Pooling.of(layer, "mean").size == 4


def test_what_cannot_be_pooled_is_refused():
    with pytest.raises(OptionError, match="did you mean 'mean'"):
        Pooling(3, "meen")
    with pytest.raises(OptionError, match="forward_size must lie in 0"):
        Pooling(3, forward_size=4)
    with pytest.raises(ShapeError, match=r"\[T, B, 3\], got \[2, 3\]"):
        Pooling(3)(torch.zeros(2, 3))
    with pytest.raises(ShapeError, match="lengths must lie in 0"):
        Pooling(3)(torch.zeros(2, 1, 3), [3])
    assert elman.layers.Pooling is Pooling
