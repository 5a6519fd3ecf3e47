"""Cuts inside a sequence that nothing is carried across."""

from itertools import pairwise

import pytest
import torch

import elman
from elman import cells
from tests.cells.cases import PLAIN
from tests.layers.zoo import EVERY, built
from tests.support import (
    assert_close,
    assert_same,
    gradients,
    literal_loop,
    outputs_of,
    packed,
    parts,
    warm_state,
    zero_state,
)

T = 7
CUTS = [[0], [3], [1, 4, 5], [], [0, 6], [2, 3]]
B = len(CUTS)


def reset_at(cuts, steps=T):
    """[T, B] bool with True at each cut."""
    reset = torch.zeros(steps, len(cuts), dtype=torch.bool)
    for b, times in enumerate(cuts):
        reset[times, b] = True
    return reset


def pieces(times, steps=T):
    """The stretches between cuts: (start, end) in the order of time."""
    borders = sorted({0, steps, *times})
    return list(pairwise(borders))


def pieces_apart(cell, x, start, times, reverse):
    """One sequence, each piece in a literal loop of its own: outputs and the last state."""
    zero = zero_state(cell, 1)
    outputs, last = [], []
    for begin, end in pieces(times):
        # The given state enters the piece that the walk begins with, unless a cut stands before.
        enters = end == T if reverse else begin == 0 and 0 not in times
        states, state = literal_loop(cell, x[begin:end], start if enters else zero, reverse=reverse)
        outputs.append(outputs_of(states))
        last.append(state)
    return torch.cat(outputs), last[0] if reverse else last[-1]


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_a_reset_equals_a_literal_loop_over_the_pieces_apart(case, reverse):
    cell = case.build()
    x = torch.randn(T, B, 3, requires_grad=True)
    start = warm_state(cell, B)
    apart = [
        pieces_apart(cell, x[:, b : b + 1], tuple(s[b : b + 1] for s in start), times, reverse)
        for b, times in enumerate(CUTS)
    ]
    expected = (
        torch.cat([outputs for outputs, _ in apart], dim=1),
        tuple(map(torch.cat, zip(*(state for _, state in apart), strict=True))),
    )
    layer = elman.Recurrent(cell, reverse=reverse)
    outputs, state = layer(x, packed(start), reset=reset_at(CUTS))
    assert_same((outputs, parts(state)), expected, [x, *start, *cell.parameters()])


@pytest.mark.parametrize("name", EVERY)
def test_a_reset_equals_the_pieces_apart_in_every_layer(name):
    layer = built(name)
    x = torch.randn(T, B, 3, requires_grad=True)
    expected = torch.cat(
        [
            torch.cat([layer(x[i:j, b : b + 1])[0] for i, j in pieces(times)])
            for b, times in enumerate(CUTS)
        ],
        dim=1,
    )
    outputs, _ = layer(x, reset=reset_at(CUTS))
    assert_same(outputs, expected, [x, *layer.parameters()])


def test_both_halves_of_a_bidirectional_layer_end_where_they_should():
    layer = elman.Bidirectional(cells.GRU(3, 4), cells.LSTM(3, 2))
    x = torch.randn(T, 1, 3)
    _, (ahead, back) = layer(x, reset=reset_at([[2, 5]]))
    assert_close(ahead, layer(x[5:])[1][0])
    assert_close(back, layer(x[:2])[1][1])


def test_no_gradient_crosses_a_cut():
    for reverse in (False, True):
        layer = elman.Recurrent(cells.GRU(3, 4), reverse=reverse)
        x = torch.randn(T, 1, 3, requires_grad=True)
        outputs, _ = layer(x, reset=reset_at([[3]]))
        for late in (False, True):
            part = outputs[3:] if late else outputs[:3]
            (gradient,) = gradients(part, [x])
            assert not gradient[:3].any() if late else not gradient[3:].any()
            assert gradient[3:].all() if late else gradient[:3].all()


@pytest.mark.parametrize("name", EVERY)
def test_resets_and_lengths_go_together(name):
    layer = built(name)
    lengths = [7, 5, 6, 0, 3, 4]
    x = torch.randn(T, B, 3)
    outputs, _ = layer(x, lengths=lengths, reset=reset_at(CUTS))
    for b, (n, times) in enumerate(zip(lengths, CUTS, strict=True)):
        alone, _ = layer(x[:n, b : b + 1], reset=reset_at([[t for t in times if t < n]], n))
        assert_close(outputs[:n, b : b + 1], alone)
        assert not outputs[n:, b].any()


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_resets_in_the_padding_change_nothing(reverse):
    cell = cells.GRU(3, 4)
    layer = elman.Recurrent(cell, reverse=reverse)
    x, (start,) = torch.randn(T, 2, 3), warm_state(cell, 2)
    expected = layer(x, start, lengths=[3, 7], reset=reset_at([[], []]))
    assert_close(layer(x, start, lengths=[3, 7], reset=reset_at([[3, 5], []])), expected)


def test_resets_come_in_the_layout_of_x():
    cell = cells.LSTM(3, 4)
    x, reset = torch.randn(T, B, 3), reset_at(CUTS)
    expected, last = elman.Recurrent(cell)(x, reset=reset)
    turned = elman.Recurrent(cell, batch_first=True)
    outputs, state = turned(x.transpose(0, 1), reset=reset.T)
    assert_close((outputs.transpose(0, 1), state), (expected, last))
    outputs, state = turned(x[:, 2], reset=reset[:, 2])
    assert_close((outputs, state), (expected[:, 2], tuple(s[2] for s in last)))


def test_a_reset_at_the_first_step_drops_the_given_state():
    cell = cells.GRU(3, 4)
    layer = elman.Recurrent(cell)
    x, (start,) = torch.randn(T, 1, 3), warm_state(cell, 1)
    assert_close(layer(x, start, reset=reset_at([[0]])), layer(x))
    assert not torch.allclose(layer(x, start)[0], layer(x)[0])
