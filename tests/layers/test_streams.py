"""One step at a time: the same numbers as the whole sequence."""

import pytest
import torch

import elman
from elman import cells
from elman.errors import OptionError, ShapeError
from tests.cells.cases import PLAIN
from tests.layers.zoo import BACKWARD, BOTH, FORWARD, I, built, some_state
from tests.support import assert_close, assert_equal, mapped, packed, randomise, warm_state

T, B = 7, 3


def streamed(layer, x, state=None):
    """Outputs and the last state of ``layer.step`` over x."""
    outputs = []
    for x_t in x:
        output, state = layer.step(x_t, state)
        outputs.append(output)
    return torch.stack(outputs), state


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_a_stream_of_any_cell_is_bitwise_the_whole_sequence(case):
    cell = case.build()
    layer = elman.Recurrent(cell)
    x, start = torch.randn(T, B, I), packed(warm_state(cell, B))
    assert_equal(streamed(layer, x, start), layer(x, start))
    alone = mapped(lambda s: s[1], start)
    assert_equal(streamed(layer, x[:, 1], alone), layer(x[:, 1], alone))


@pytest.mark.parametrize("name", FORWARD)
def test_a_stream_of_any_layer_is_bitwise_the_whole_sequence(name):
    layer = built(name)
    x, start = torch.randn(T, B, I), some_state(layer, B)
    assert_equal(streamed(layer, x), layer(x))
    assert_equal(streamed(layer, x, start), layer(x, start))


@pytest.mark.parametrize("name", FORWARD)
def test_a_stream_of_one_sequence_is_bitwise_the_whole_sequence(name):
    layer = built(name)
    x = torch.randn(T, I)
    outputs, state = streamed(layer, x)
    assert outputs.shape == (T, layer.output_size)
    assert_equal((outputs, state), layer(x))


def test_a_stream_of_one_sequence_through_a_stack_of_deep_lstms_is_the_whole_sequence():
    layer = randomise(elman.Stack([elman.LSTM(I, 4, num_layers=2), cells.GRU(4, 2)]))
    x = torch.randn(T, I)
    assert_equal(streamed(layer, x), layer(x))


def test_gradients_flow_through_a_stream():
    layer = elman.Recurrent(cells.GRU(I, 4))
    x = torch.randn(T, B, I, requires_grad=True)
    outputs, _ = streamed(layer, x)
    expected, _ = layer(x)
    found = torch.autograd.grad(outputs.sum(), [x, *layer.parameters()])
    assert_close(found, torch.autograd.grad(expected.sum(), [x, *layer.parameters()]))


def test_a_stream_may_go_on_from_a_whole_sequence():
    layer = built("Stack")
    x = torch.randn(T, B, I)
    first, state = layer(x[:4])
    second, state = streamed(layer, x[4:], state)
    assert_close((torch.cat((first, second)), state), layer(x))


@pytest.mark.parametrize("kind", [elman.Recurrent, None], ids=["Recurrent", "LSTM"])
def test_a_step_takes_no_notice_of_batch_first(kind):
    layer = kind(cells.LSTM(I, 4), batch_first=True) if kind else elman.LSTM(I, 4, batch_first=True)
    x = torch.randn(T, B, I)
    outputs, state = streamed(layer, x)
    expected, last = layer(x.transpose(0, 1))
    assert_equal((outputs, state), (expected.transpose(0, 1), last))


@pytest.mark.parametrize("name", BACKWARD | BOTH)
def test_a_layer_that_needs_the_future_cannot_step(name):
    layer = built(name)
    with pytest.raises(OptionError, match=r"step: .*needs the whole sequence"):
        layer.step(torch.randn(B, I))


@pytest.mark.parametrize("rates", [{"state_dropout": 0.5}, {"input_dropout": 0.5}])
@pytest.mark.parametrize("kind", ["Recurrent", "Stack", "LSTM"])
def test_a_step_is_refused_while_a_mask_holds_for_a_whole_sequence(kind, rates):
    layer = {
        "Recurrent": lambda: elman.Recurrent(cells.LSTM(I, 4), **rates),
        "Stack": lambda: elman.Stack([elman.Recurrent(cells.LSTM(I, 4), **rates)]),
        "LSTM": lambda: elman.LSTM(I, 4, **rates),
    }[kind]()
    with pytest.raises(OptionError, match=r"drawn once a sequence .* call layer.eval\(\) first"):
        layer.step(torch.randn(B, I))
    layer.eval()
    x = torch.randn(T, B, I)
    assert_equal(streamed(layer, x), layer(x))


@pytest.mark.parametrize("shape", [(), (T, B, I)], ids=str)
@pytest.mark.parametrize("name", ["Recurrent GRU", "LSTM"])
def test_a_step_takes_one_step_only(name, shape):
    with pytest.raises(ShapeError, match=r"x_t must be \[B, I\] or \[I\]"):
        built(name).step(torch.randn(shape))
