"""elman.RNN, LSTM and GRU against torch.nn: outputs, states and every gradient."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import elman
from tests.support import assert_close, gradients, leaves

I, H, B = 3, 4, 3
MODES = {
    "rnn tanh": (elman.RNN, nn.RNN, {"nonlinearity": "tanh"}),
    "rnn relu": (elman.RNN, nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (elman.LSTM, nn.LSTM, {}),
    "lstm projected": (elman.LSTM, nn.LSTM, {"proj_size": 3}),
    "gru": (elman.GRU, nn.GRU, {}),
}
FORMS = ("padded", "sorted", "unsorted", "unbatched")
LENGTHS = {
    ("sorted", 7): [7, 5, 2],
    ("unsorted", 7): [2, 7, 5],
    ("sorted", 1): [1, 1, 1],
    ("unsorted", 1): [1, 1, 1],
}


def pair(mode, **options):
    """Ours and torch's, built from one seed."""
    ours, theirs, fixed = MODES[mode]
    torch.manual_seed(5)
    first = ours(I, H, **fixed, **options)
    torch.manual_seed(5)
    return first, theirs(I, H, **fixed, **options)


def sequence_for(form, T, batch_first, dtype):
    """The leaf that gradients are asked for, and how it is handed to a layer."""
    if form == "unbatched":
        x = torch.randn(T, I, dtype=dtype, requires_grad=True)
        return x, x
    x = torch.randn(*((B, T) if batch_first else (T, B)), I, dtype=dtype, requires_grad=True)
    if form == "padded":
        return x, x
    lengths, in_order = LENGTHS[form, T], form == "sorted"
    return x, pack_padded_sequence(x, lengths, batch_first, enforce_sorted=in_order)


def state_for(layer, form, dtype):
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    batch = () if form == "unbatched" else (B,)
    sizes = (layer.proj_size or H, H) if layer.mode == "LSTM" else (H,)
    drawn = tuple(torch.randn(rows, *batch, s, dtype=dtype, requires_grad=True) for s in sizes)
    return drawn if len(drawn) > 1 else drawn[0]


def same_packing(ours, theirs):
    assert isinstance(ours, PackedSequence)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert (a is None and b is None) or torch.equal(a, b), name


def compare(ours, theirs, form, T, batch_first, dtype, hx_given):
    x, given = sequence_for(form, T, batch_first, dtype)
    hx = state_for(theirs, form, dtype) if hx_given else None
    results, grads = [], []
    for layer in (ours, theirs):
        outputs, state = layer(given, hx)
        if form in ("sorted", "unsorted"):
            results.append((outputs, (outputs.data, state)))
        else:
            results.append((None, (outputs, state)))
        wrt = [x, *(leaves(hx) if hx_given else ()), *layer.parameters()]
        grads.append(gradients(results[-1][1], wrt))
    if results[0][0] is not None:
        same_packing(results[0][0], results[1][0])
    assert_close(results[0][1], results[1][1])
    assert_close(*grads)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_outputs_states_and_gradients_equal_torch(mode, num_layers, bidirectional, dtype):
    for bias, batch_first in product((True, False), repeat=2):
        ours, theirs = pair(
            mode,
            num_layers=num_layers,
            bidirectional=bidirectional,
            bias=bias,
            batch_first=batch_first,
            dtype=dtype,
        )
        for (number, form), T in product(enumerate(FORMS), (1, 7)):
            hx_given = (number + num_layers + bias + (T == 7)) % 2 == 1
            compare(ours, theirs, form, T, batch_first, dtype, hx_given)


@pytest.mark.parametrize("mode", MODES)
def test_equal_seeds_give_bitwise_equal_weights(mode):
    ours, theirs = pair(mode, num_layers=2, bidirectional=True)
    expected = theirs.state_dict()
    assert list(ours.state_dict()) == list(expected)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("mode", MODES)
def test_state_dicts_exchange_both_ways(mode):
    ours, theirs = pair(mode, num_layers=2, bidirectional=True)
    x = torch.randn(7, B, I)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    assert_close(ours(x), theirs(x))
    before = theirs(x)[0]
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs.load_state_dict(ours.state_dict())
    assert_close(theirs(x), ours(x))
    assert not torch.equal(theirs(x)[0], before)


def test_a_packed_batch_without_indices_keeps_its_order():
    ours, theirs = pair("lstm", num_layers=2, bidirectional=True)
    x = torch.randn(7, B, I)
    whole = pack_padded_sequence(x, [7, 5, 2])
    bare = PackedSequence(whole.data, whole.batch_sizes)
    hx = state_for(theirs, "sorted", torch.float64)
    (a, state_a), (b, state_b) = ours(bare, hx), theirs(bare, hx)
    same_packing(a, b)
    assert_close((a.data, state_a), (b.data, state_b))


def test_a_packed_batch_equals_the_same_batch_with_lengths():
    ours, _ = pair("gru", num_layers=2, bidirectional=True)
    x, lengths = torch.randn(7, B, I), [2, 7, 5]
    packed, state = ours(pack_padded_sequence(x, lengths, enforce_sorted=False))
    outputs, expected = ours(x, lengths=lengths)
    unpacked, _ = nn.utils.rnn.pad_packed_sequence(packed)
    assert_close((unpacked, state), (outputs, expected))


def test_truncation_reaches_a_packed_batch():
    ours, _ = pair("gru")
    x, lengths = torch.randn(7, B, I, requires_grad=True), [7, 5, 2]
    (packed, _), (outputs, _) = (
        ours(pack_padded_sequence(x, lengths), truncate=2),
        ours(x, lengths=lengths, truncate=2),
    )
    unpacked, _ = nn.utils.rnn.pad_packed_sequence(packed)
    assert_close(unpacked, outputs)
    assert_close(gradients(unpacked, [x]), gradients(outputs, [x]))
