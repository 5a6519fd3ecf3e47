"""The tables of a layout over a ragged batch, against loops that fill them a row at a time; and the
room that loops keep from one run to the next."""

import threading

import pytest
import torch

import elman
from elman.backends.ragged import ragged_layout
from elman.backends.sequence import SequenceInfo
from tests.support import assert_close, assert_equal

T = 6
LENGTHS = [[3, 0, 6, 1, 3], [6], [0, 0, 2], [1, 1, 1], [5, 4, 3, 2, 1, 0]]


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_every_table_of_a_walk(lengths, reverse):
    B = len(lengths)
    layout = ragged_layout(T, B, SequenceInfo(torch.tensor(lengths)), reverse)
    order = sorted(range(B), key=lambda b: -lengths[b])
    rows = [(t, b) for t in range(T) for b in range(B) if t < lengths[order[b]]]
    at = {place: row for row, place in enumerate(rows)}
    assert layout.rows == len(rows)
    assert layout.order.tolist() == order
    assert layout.lengths.tolist() == [lengths[b] for b in order]
    assert layout.source.tolist() == [t * B + order[b] for t, b in rows]
    assert layout.sequences.tolist() == [b for _, b in rows]
    before, given, first = (1, len(rows), 0) if reverse else (-1, 0, B)
    assert layout.previous.tolist() == [
        at[t + before, b] + first if (t + before, b) in at else given + b for t, b in rows
    ]
    last = [0 if reverse else n - 1 for n in layout.lengths.tolist()]
    ends = [at.get((t, b), -1) for b, t in enumerate(last)]
    assert layout.final.tolist() == ends
    turns = [layout.steps - 1 if reverse else t for t in last]
    assert layout.final_in_turn.tolist() == [
        -1 if end < 0 else turn % 2 * B + b
        for b, (end, turn) in enumerate(zip(ends, turns, strict=True))
    ]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_rows_go_there_and_back_twice_differentiated(lengths):
    B = len(lengths)
    layout = ragged_layout(T, B, SequenceInfo(torch.tensor(lengths)), reverse=False)
    x = torch.randn(T, B, 3, dtype=torch.float64, requires_grad=True)
    inside = torch.arange(T)[:, None] < torch.tensor(lengths)
    assert_equal(layout.unpack(layout.pack(x), T), torch.where(inside[..., None], x, 0))
    assert torch.autograd.gradcheck(layout.pack, x)
    assert torch.autograd.gradgradcheck(lambda x: layout.unpack(layout.pack(x) ** 2, T), x)


def test_the_layers_of_one_call_share_a_walk():
    sequence = SequenceInfo(torch.tensor([2, 3]))
    assert ragged_layout(4, 2, sequence, False) is ragged_layout(4, 2, sequence, False)
    assert ragged_layout(4, 2, sequence, False) is not ragged_layout(4, 2, sequence, True)


def runs(layer, shapes):
    for T, B in shapes:
        x = torch.randn(T, B, 5, generator=torch.Generator().manual_seed(T * B))
        outputs, _ = layer(x)
        yield outputs, *torch.autograd.grad(outputs.sum(), [*layer.parameters()])


def test_sizes_in_turn_and_threads_at_once_have_room_of_their_own():
    layer, fresh = (elman.LSTM(5, 9) for _ in range(2))
    fresh.load_state_dict(layer.state_dict())
    shapes = [(4, 3), (7, 2), (4, 3), (1, 8), (7, 2), (4, 3)]
    expected = [next(runs(fresh, [shape])) for shape in shapes]
    found = {}

    def call(number):
        found[number] = [list(runs(layer, shapes)) for _ in range(5)]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for repeats in found.values():
        for each in repeats:
            for one, right in zip(each, expected, strict=True):
                assert_close(one, right)
    assert len(found) == 3
