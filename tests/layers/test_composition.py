"""Stacks and bidirectional layers against the same layers composed by hand."""

import pytest
import torch
import torch.nn.functional as F

import elman
from elman import cells
from elman.errors import OptionError
from elman.layers.dropout import dropout
from tests.layers.zoo import I, some_state
from tests.support import assert_close, assert_equal, assert_same, leaves, randomise

T, B = 5, 2


@pytest.fixture
def x():
    return torch.randn(T, B, I, requires_grad=True)


def test_a_stack_feeds_each_layer_the_outputs_below(x):
    stack = randomise(elman.Stack([cells.Elman(I, 4), cells.LSTM(4, 2), cells.GRU(2, 3)]))
    start = some_state(stack, B)
    a, b, c = stack.layers
    first, end_a = a(x, start[0])
    second, end_b = b(first, start[1])
    third, end_c = c(second, start[2])
    expected = third, (end_a, end_b, end_c)
    assert_same(stack(x, start), expected, [x, *leaves(start), *stack.parameters()])


def test_a_reverse_stack_is_a_stack_of_reverse_layers(x):
    first, second = cells.GRU(I, 4), cells.LSTM(4, 2)
    stack = elman.Stack([first, second], reverse=True)
    assert stack.reverse
    middle, end = elman.Recurrent(first, reverse=True)(x)
    outputs, last = elman.Recurrent(second, reverse=True)(middle)
    assert_same(stack(x), (outputs, (end, last)), [x, *stack.parameters()])


def test_a_residual_stack_adds_the_input_where_the_sizes_are_equal(x):
    stack = randomise(
        elman.Stack([cells.GRU(I, I), cells.GRU(I, 4), cells.LSTM(4, 4)], residual=True)
    )
    a, b, c = stack.layers
    first = x + a(x)[0]
    second = b(first)[0]
    third = second + c(second)[0]
    assert_same(stack(x)[0], third, [x, *stack.parameters()])


def test_a_residual_stack_leaves_the_padding_zero(x):
    stack = elman.Stack([cells.GRU(I, I), cells.GRU(I, I)], residual=True, layer_norm=True)
    outputs, _ = randomise(stack)(x, lengths=[2, 5])
    assert not outputs[2:, 0].any()
    assert outputs[:2, 0].all()


@pytest.mark.parametrize("residual", [False, True])
def test_layer_norm_stands_before_each_layer_and_after_the_last(x, residual):
    stack = randomise(
        elman.Stack([cells.GRU(I, I), cells.LSTM(I, I)], residual=residual, layer_norm=True)
    )

    def norm(number, value):
        own = stack.norms[number]
        return F.layer_norm(value, (I,), own.weight, own.bias)

    first = stack.layers[0](norm(0, x))[0]
    first = first + x if residual else first
    second = stack.layers[1](norm(1, first))[0]
    second = second + first if residual else second
    assert_same(stack(x)[0], norm(2, second), [x, *stack.parameters()])


def test_dropout_falls_between_layers_only(x):
    stack = elman.Stack([cells.GRU(I, 40), cells.GRU(40, 4)], dropout=0.5)
    a, b = stack.layers
    torch.manual_seed(1)
    found = stack(x)[0]
    torch.manual_seed(1)
    dropped = dropout(a(x)[0], 0.5, True)
    assert_close(found, b(dropped)[0])
    assert 0.3 < (dropped == 0).double().mean() < 0.7
    assert not torch.equal(dropped[0] == 0, dropped[1] == 0)
    stack.eval()
    assert_close(stack(x)[0], b(a(x)[0])[0])


def test_dropout_leaves_a_stack_of_one_layer_alone(x):
    stack = elman.Stack([cells.GRU(I, 4)], dropout=0.9)
    assert_equal(stack(x)[0], stack.layers[0](x)[0])


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_a_bidirectional_layer_merges_both_directions(x, merge):
    layer = randomise(elman.Bidirectional(cells.GRU(I, 4), cells.LSTM(I, 4), merge))
    start = some_state(layer, B)
    ahead, end = elman.Recurrent(layer.forward_layer.cell)(x, start[0])
    back, other = elman.Recurrent(layer.backward_layer.cell)(x.flip(0), tuple(s for s in start[1]))
    back = back.flip(0)
    outputs = torch.cat((ahead, back), dim=-1) if merge == "concat" else ahead + back
    assert layer.output_size == outputs.shape[-1]
    wrt = [x, *leaves(start), *layer.parameters()]
    assert_same(layer(x, start), (outputs, (end, other)), wrt)


def test_a_stack_of_bidirectional_layers_mixes_the_directions_at_each_layer(x):
    below = elman.Bidirectional(cells.GRU(I, 2), cells.LSTM(I, 2))
    above = elman.Bidirectional(cells.Elman(4, 3), cells.GRU(4, 3), "sum")
    stack = randomise(elman.Stack([below, above]))
    a, b = below.forward_layer.cell, below.backward_layer.cell
    c, d = above.forward_layer.cell, above.backward_layer.cell

    def run(cell, value, reverse):
        value = value.flip(0) if reverse else value
        outputs, last = elman.Recurrent(cell)(value)
        return (outputs.flip(0) if reverse else outputs), last

    ahead, end_a = run(a, x, False)
    back, end_b = run(b, x, True)
    middle = torch.cat((ahead, back), dim=-1)
    ahead, end_c = run(c, middle, False)
    back, end_d = run(d, middle, True)
    expected = ahead + back, ((end_a, end_b), (end_c, end_d))
    assert_same(stack(x), expected, [x, *stack.parameters()])


def test_a_bidirectional_stack_keeps_the_directions_apart(x):
    ahead = elman.Stack([cells.GRU(I, 4), cells.LSTM(4, 2)])
    back = elman.Stack([cells.LSTM(I, 4), cells.GRU(4, 3)], reverse=True)
    layer = randomise(elman.Bidirectional(ahead, back))
    first, state = ahead(x)
    second, other = back(x)
    expected = torch.cat((first, second), dim=-1), (state, other)
    assert layer.output_size == 5
    assert_same(layer(x), expected, [x, *layer.parameters()])


def test_a_torch_like_layer_stands_in_a_stack(x):
    stack = elman.Stack([elman.LSTM(I, 4, bidirectional=True), cells.GRU(8, 2)])
    a, b = stack.layers
    middle, state = a(x)
    outputs, last = b(middle)
    assert_same(stack(x), (outputs, (state, last)), [x, *stack.parameters()])


def test_the_same_cell_may_stand_in_two_places(x):
    cell = cells.GRU(I, I)
    stack = elman.Stack([cell, cell])
    assert len([*stack.parameters()]) == 4
    once = elman.Recurrent(cell)
    assert_same(stack(x)[0], once(once(x)[0])[0], [x, *stack.parameters()])


def recurrent(*sizes, **options):
    return elman.Recurrent(cells.GRU(*sizes), **options)


WRONG = {
    "Stack needs at least one layer": lambda: elman.Stack([]),
    "layer 1 takes input_size 5, but layer 0 puts out 4": lambda: elman.Stack(
        [cells.GRU(3, 4), cells.GRU(5, 4)]
    ),
    "layers 0 and 1 must agree in batch_first and reverse": lambda: elman.Stack(
        [recurrent(3, 4), recurrent(4, 4, reverse=True)]
    ),
    "layers 1 and 2 must agree": lambda: elman.Stack(
        [recurrent(3, 4), recurrent(4, 4), recurrent(4, 4, batch_first=True)]
    ),
    "residual=True needs a layer with equal": lambda: elman.Stack([cells.GRU(3, 4)], residual=True),
    r"dropout must be a probability in \[0, 1\), got 1.0": lambda: elman.Stack(
        [cells.GRU(3, 4)], dropout=1.0
    ),
    "expected an elman layer or an elman.Cell": lambda: elman.Stack([torch.nn.Linear(3, 4)]),
    "unknown merge 'concatenate': did you mean 'concat'": lambda: elman.Bidirectional(
        cells.GRU(3, 4), cells.GRU(3, 4), "concatenate"
    ),
    "merge='sum' needs equal outputs, got 4 and 2": lambda: elman.Bidirectional(
        cells.GRU(3, 4), cells.GRU(3, 2), "sum"
    ),
    "same input_size and batch_first": lambda: elman.Bidirectional(
        cells.GRU(3, 4), cells.GRU(2, 4)
    ),
    "same input_size and batch_first, got 3, True": lambda: elman.Bidirectional(
        recurrent(3, 4, batch_first=True), recurrent(3, 4, reverse=True)
    ),
    "second be built with reverse=True, got reverse=False and False": lambda: elman.Bidirectional(
        recurrent(3, 4), recurrent(3, 4)
    ),
    "first layer must read forwards": lambda: elman.Bidirectional(
        recurrent(3, 4, reverse=True), recurrent(3, 4, reverse=True)
    ),
    "Recurrent lifts an elman.Cell": lambda: elman.Recurrent(torch.nn.LSTMCell(3, 4)),
}


@pytest.mark.parametrize("message", WRONG)
def test_layers_that_do_not_fit_are_refused(message):
    with pytest.raises(OptionError, match=message):
        WRONG[message]()


def test_a_stack_takes_one_state_for_each_layer(x):
    stack = elman.Stack([cells.GRU(I, 4), cells.GRU(4, 4)])
    with pytest.raises(ValueError, match="a tuple of 2, one entry a layer; got 1"):
        stack(x, (torch.zeros(B, 4),))
