"""What must hold for every layer, however a sequence comes in."""

import pytest
import torch

import elman
from elman import cells
from tests.cells.cases import CASES, PLAIN
from tests.layers.zoo import BACKWARD, BOTH, EVERY, FORWARD, I, built, rows, some_state
from tests.support import (
    assert_close,
    assert_equal,
    assert_same,
    leaves,
    literal_loop,
    mapped,
    outputs_of,
    packed,
    parts,
    randomise,
    warm_state,
)

T, B = 7, 3
TORCH_LIKE = [name for name in EVERY if name.split()[0] in ("RNN", "LSTM", "GRU")]


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_layer_is_a_literal_loop_over_its_cell(case, reverse):
    cell = case.build()
    x = torch.randn(T, B, cell.input_size, requires_grad=True)
    start = warm_state(cell, B)
    states, last = literal_loop(cell, x, start, reverse=reverse)
    outputs, state = elman.Recurrent(cell, reverse=reverse)(x, packed(start))
    wrt = [x, *start, *cell.parameters()]
    assert_same((outputs, parts(state)), (outputs_of(states), last), wrt)


@pytest.mark.parametrize("name", FORWARD)
def test_chunks_with_a_carried_state_equal_one_run(name):
    layer = built(name)
    x = torch.randn(T, B, I)
    state, outputs = some_state(layer, B), []
    expected = layer(x, state)
    for chunk in x.split([2, 1, 4]):
        found, state = layer(chunk, state)
        outputs.append(found)
    assert_close((torch.cat(outputs), state), expected)


@pytest.mark.parametrize("name", BACKWARD)
def test_chunks_from_the_end_equal_one_run_of_a_reverse_layer(name):
    layer = built(name)
    x = torch.randn(T, B, I)
    later, state = layer(x[4:])
    earlier, state = layer(x[:4], state)
    assert_close((torch.cat((earlier, later)), state), layer(x))


@pytest.mark.parametrize("name", EVERY)
def test_one_sample_alone_equals_the_same_sample_in_a_batch(name):
    layer = built(name)
    x = torch.randn(T, B, I)
    start = some_state(layer, B)
    outputs, state = layer(x, start)
    for b in range(B):
        alone = layer(x[:, b : b + 1], rows(start, layer, b))
        assert_close((outputs[:, b : b + 1], rows(state, layer, b)), alone)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_a_reverse_layer_on_a_flipped_sequence_is_the_forward_layer_flipped(case):
    cell = case.build()
    x, start = torch.randn(T, B, I), packed(warm_state(cell, B))
    outputs, state = elman.Recurrent(cell, reverse=True)(x.flip(0), start)
    assert_close((outputs.flip(0), state), elman.Recurrent(cell)(x, start))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_return_states_gives_every_part_at_every_step(case, reverse):
    cell = case.build()
    x, start = torch.randn(T, B, I), warm_state(cell, B)
    expected, _ = literal_loop(cell, x, start, reverse=reverse)
    layer = elman.Recurrent(cell, reverse=reverse)
    outputs, state, states = layer(x, packed(start), return_states=True)
    assert_close(parts(states), tuple(map(torch.stack, zip(*expected, strict=True))))
    assert_equal(parts(states)[0], outputs)
    assert_equal((outputs, state), layer(x, packed(start)))


@pytest.mark.parametrize("name", [name for name in EVERY if name not in TORCH_LIKE])
def test_composed_layers_return_the_states_of_each_layer(name):
    layer = built(name)
    x = torch.randn(T, B, I)
    outputs, state, states = layer(x, return_states=True)
    assert_equal((outputs, state), layer(x))
    for last, history in zip(leaves(state), leaves(states), strict=True):
        assert history.shape == (T, *last.shape)
        assert torch.equal(history[-1], last) != torch.equal(history[0], last)
    if name in FORWARD:
        assert_equal(mapped(lambda s: s[-1], states), state)
    if name in BACKWARD:
        assert_equal(mapped(lambda s: s[0], states), state)


@pytest.mark.parametrize("name", TORCH_LIKE)
def test_torch_like_layers_return_states_for_each_layer_and_direction(name):
    layer = built(name)
    x = torch.randn(T, B, I)
    outputs, state, states = layer(x, return_states=True)
    both = layer.bidirectional
    for last, history in zip(leaves(state), leaves(states), strict=True):
        layers, batch, size = last.shape
        assert history.shape == (layers, T, batch, size)
        for row in range(layers):
            end = 0 if both and row % 2 else T - 1
            assert torch.equal(history[row, end], last[row])
    top = leaves(states)[0][-2:] if both else leaves(states)[0][-1:]
    assert torch.equal(torch.cat([*top], dim=-1), outputs)


@pytest.mark.parametrize("name", EVERY)
def test_one_sequence_without_a_batch_axis_equals_a_batch_of_one(name):
    layer = built(name)
    x, axis = torch.randn(T, I), layer.state_batch_axis
    start = some_state(layer, 1)
    expected, last, history = layer(x[:, None], start, return_states=True)
    alone = mapped(lambda s: s.squeeze(axis), start)
    outputs, state, states = layer(x, alone, return_states=True)
    assert_equal(outputs, expected.squeeze(1))
    assert_equal(state, mapped(lambda s: s.squeeze(axis), last))
    assert_equal(states, mapped(lambda s: s.squeeze(-2), history))
    assert_equal(layer(x[:3])[0], layer(x[:3, None])[0].squeeze(1))


def test_a_stack_of_torch_like_layers_carries_the_state_of_one_sequence():
    layer = randomise(elman.Stack([elman.LSTM(I, 4, num_layers=2), cells.GRU(4, 2)]))
    x = torch.randn(T, I)
    first, state = layer(x[:3])
    second, _ = layer(x[3:], state)
    assert_close(torch.cat((first, second)), layer(x)[0])


BATCH_FIRST = {
    "Recurrent": lambda first: elman.Recurrent(cells.LSTM(I, 4), batch_first=first),
    "Stack": lambda first: elman.Stack([cells.GRU(I, 4), cells.LSTM(4, 2)], batch_first=first),
    "Bidirectional": lambda first: elman.Bidirectional(
        cells.GRU(I, 4), cells.LSTM(I, 2), batch_first=first
    ),
    "LSTM": lambda first: elman.LSTM(I, 4, 2, batch_first=first, bidirectional=True),
}


@pytest.mark.parametrize("name", BATCH_FIRST)
def test_batch_first_turns_inputs_outputs_and_histories(name):
    layer, turned = BATCH_FIRST[name](False), BATCH_FIRST[name](True)
    turned.load_state_dict(layer.state_dict())
    x = torch.randn(T, B, I)
    start = some_state(layer, B)
    outputs, state, states = layer(x, start, return_states=True)
    found = turned(x.transpose(0, 1), start, return_states=True)
    expected = outputs.transpose(0, 1), state, mapped(lambda s: s.transpose(-3, -2), states)
    assert_equal(found, expected)


@pytest.mark.parametrize("name", EVERY)
def test_a_sequence_of_no_steps_returns_the_state_it_was_given(name):
    layer = built(name)
    start = some_state(layer, B)
    outputs, state, states = layer(torch.randn(0, B, I), start, return_states=True)
    assert outputs.shape == (0, B, layer.output_size)
    assert_equal(state, start)
    assert all(0 in history.shape for history in leaves(states))
    _, state = layer(torch.randn(0, B, I))
    assert [s.shape for s in leaves(state)] == [s.shape for s in leaves(start)]
    assert not any(s.any() for s in leaves(state))


@pytest.mark.parametrize("name", EVERY)
def test_an_empty_batch_gives_empty_results(name):
    layer = built(name)
    x = torch.randn(T, 0, I, requires_grad=True)
    outputs, state = layer(x)
    assert outputs.shape == (T, 0, layer.output_size)
    assert all(s.shape[layer.state_batch_axis] == 0 for s in leaves(state))
    for gradient in torch.autograd.grad(outputs.sum(), [x, *layer.parameters()], allow_unused=True):
        assert gradient is None or not gradient.any()


@pytest.mark.parametrize("name", FORWARD | BOTH)
def test_a_sequence_need_not_be_contiguous(name):
    layer = built(name)
    x = torch.randn(B, I, 2 * T).permute(2, 0, 1)[::2]
    assert not x.is_contiguous()
    start = mapped(lambda s: s.detach().mT.contiguous().mT, some_state(layer, B))
    assert_close(layer(x, start), layer(x.contiguous(), mapped(torch.Tensor.contiguous, start)))


@pytest.mark.parametrize("name", EVERY)
def test_neither_the_sequence_nor_the_state_is_written_to(name):
    layer = built(name)
    x, start = torch.randn(T, B, I), some_state(layer, B)
    before = x.clone(), mapped(torch.clone, start)
    layer(x, start, lengths=[7, 3, 0], truncate=2)
    assert_equal((x, start), before)
