"""What the drop-in layers refuse: the errors of torch.nn's, in its words."""

import re

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import elman
from elman.errors import ShapeError

T, B, I, H = 5, 2, 3, 4
KINDS = {"RNN": elman.RNN, "LSTM": elman.LSTM, "GRU": elman.GRU}
ALL = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def x():
    return torch.randn(T, B, I)


def state(kind, *shape, **options):
    h = torch.zeros(*shape, **options)
    return (h, h) if kind == "LSTM" else h


def refused(kind, message, x, hx=None, **options):
    """Both refuse it in the same words; ours with an error that is torch's by class too."""
    ours, theirs = KINDS[kind](I, H, **options), getattr(nn, kind)(I, H, **options)
    if not (kind == "LSTM" and isinstance(x, PackedSequence)):  # torch checks nothing there
        with pytest.raises((RuntimeError, ValueError), match=message):
            theirs(x, hx)
    with pytest.raises(ShapeError, match=message) as caught:
        ours(x, hx)
    assert isinstance(caught.value, RuntimeError) and isinstance(caught.value, ValueError)


@ALL
@pytest.mark.parametrize("axes", [1, 4])
def test_the_number_of_axes(kind, axes):
    tensor = " tensor" if kind == "RNN" else ""
    message = f"{kind}: Expected input to be 2D or 3D, got {axes}D{tensor} instead"
    refused(kind, message, torch.zeros((1,) * (axes - 1) + (I,)))


@ALL
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_input_size(kind, batch_first):
    message = r"input.size\(-1\) must be equal to input_size. Expected 3, got 4"
    refused(kind, message, torch.zeros(T, B, 4), batch_first=batch_first)
    refused(kind, message, torch.zeros(T, 4), batch_first=batch_first)
    refused(kind, message, pack_padded_sequence(torch.zeros(T, B, 4), [5, 3]))


@ALL
def test_the_dtype(kind, x):
    message = r"RNN input dtype \(torch.float32\) does not match weight dtype \(torch.float64\)"
    refused(kind, message, x.float())
    refused(kind, message, pack_padded_sequence(x.float(), [5, 3]))


@ALL
@pytest.mark.parametrize(
    "shape,options",
    [
        ((2, B, H), {}),
        ((1, B + 1, H), {}),
        ((1, B, H + 1), {}),
        ((2, B, H), {"num_layers": 2, "bidirectional": True}),
    ],
    ids=["layers", "batch", "size", "directions"],
)
def test_the_size_of_the_state(kind, shape, options, x):
    rows = 4 if options else 1
    which = r"hidden\[0\]" if kind == "LSTM" else "hidden"
    message = re.escape(f"size ({rows}, {B}, {H}), got {list(shape)}")
    refused(kind, f"Expected {which} {message}", x, state(kind, *shape), **options)


def test_the_size_of_the_cell_state(x):
    hx = torch.zeros(1, B, H), torch.zeros(1, B, H + 1)
    refused("LSTM", r"Expected hidden\[1\] size \(1, 2, 4\), got \[1, 2, 5\]", x, hx)
    hx = torch.zeros(1, B, H), torch.zeros(1, B, H)
    refused("LSTM", r"Expected hidden\[0\] size \(1, 2, 2\), got \[1, 2, 4\]", x, hx, proj_size=2)


@ALL
def test_the_number_of_axes_of_the_state(kind, x):
    several = "hx and cx" if kind == "LSTM" else "hx"
    message = f"For batched 3-D input, {several} should also be 3-D but got"
    refused(kind, message, x, state(kind, B, H))
    message = f"For unbatched 2-D input, {several} should also be 2-D but got"
    refused(kind, message, x[:, 0], state(kind, 1, B, H))


@ALL
def test_the_kind_of_the_state(kind, x):
    layer = KINDS[kind](I, H)
    with pytest.raises(ShapeError, match="Input and hidden tensors are not the same dtype, found"):
        layer(x, state(kind, 1, B, H, dtype=torch.float32))
    with pytest.raises(ShapeError, match="Input and hidden tensors are not at the same device, fo"):
        layer(x, state(kind, 1, B, H, device="meta"))
    with pytest.raises(ShapeError, match="Input and parameter tensors are not at the same device"):
        layer(x.to("meta"))


@pytest.mark.parametrize("hx", [3, torch.zeros(1, B, H), (torch.zeros(1, B, H),), ([0.0], [0.0])])
def test_a_state_that_is_none_is_refused(hx, x):
    with pytest.raises(ShapeError, match=r"LSTM: hx must be a tuple of 2 tensors \(h, c\)"):
        elman.LSTM(I, H)(x, hx)


@ALL
def test_no_steps_are_allowed(kind):
    outputs, _ = KINDS[kind](I, H)(torch.zeros(0, B, I))
    assert outputs.shape == (0, B, H)
    with pytest.raises(RuntimeError, match="larger than 0|length"):
        getattr(nn, kind)(I, H)(torch.zeros(0, B, I))


@ALL
def test_a_check_of_a_subclass_is_asked(kind, x):
    seen = []

    class Own(KINDS[kind]):
        def check_forward_args(self, input, hidden, batch_sizes):
            seen.append((input.shape, batch_sizes is None))
            super().check_forward_args(input, hidden, batch_sizes)
            if input.shape[-1] == I and float(input.detach().abs().max()) > 100:
                raise ValueError("too large")

    layer = Own(I, H, batch_first=True)
    layer(x)
    layer(pack_padded_sequence(x, [5, 3]))
    assert seen == [(x.shape, True), (torch.Size((8, I)), False)]
    with pytest.raises(ValueError, match="too large"):
        layer(x * 1000)
