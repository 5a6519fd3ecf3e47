"""What a layer refuses, and what it says then."""

import re

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import elman
from elman import cells
from elman.errors import OptionError, ShapeError

T, B, I, H = 5, 2, 3, 4
KINDS = {
    "Recurrent": lambda: elman.Recurrent(cells.LSTM(I, H)),
    "Stack": lambda: elman.Stack([cells.GRU(I, H), cells.LSTM(H, H)]),
    "Bidirectional": lambda: elman.Bidirectional(cells.GRU(I, H), cells.GRU(I, H)),
    "LSTM": lambda: elman.LSTM(I, H),
}
ALL = pytest.mark.parametrize("kind", KINDS)
OWN = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind != "LSTM"]
)  # that one speaks as torch.nn's


@pytest.fixture
def x():
    return torch.randn(T, B, I)


@OWN
@pytest.mark.parametrize("shape", [(I,), (1, T, B, I), ()], ids=str)
def test_x_has_two_or_three_axes(kind, shape):
    with pytest.raises(ShapeError, match=rf"{kind}: x must be \[T, B, I\], or \[T, I\] for one"):
        KINDS[kind]()(torch.zeros(shape))


def test_the_axes_are_named_as_the_layer_takes_them():
    with pytest.raises(ShapeError, match=r"x must be \[B, T, I\].*got \[1, 2, 3, 4\]"):
        elman.LSTM(I, H, batch_first=True)(torch.zeros(1, 2, 3, 4))


@OWN
def test_the_last_axis_of_x_is_the_input_size(kind):
    message = rf"{kind}: the last axis of x must be input_size = 3, got \[5, 2, 4\]"
    with pytest.raises(ShapeError, match=message):
        KINDS[kind]()(torch.zeros(T, B, 4))


@OWN
def test_x_has_the_dtype_of_the_layer(kind, x):
    message = r"x is torch.float32, the layer torch.float64; use x.to\(torch.float64\)"
    with pytest.raises(ShapeError, match=message):
        KINDS[kind]()(x.float())


@OWN
def test_x_is_on_the_device_of_the_layer(kind, x):
    with pytest.raises(ShapeError, match=r"x is on meta, the layer on cpu; use x.to\('cpu'\)"):
        KINDS[kind]()(x.to("meta"))


@pytest.mark.parametrize("wrong", ["size", "dtype"])
def test_a_packed_sequence_is_checked_as_any_other(wrong, x):
    data = x.float() if wrong == "dtype" else torch.zeros(T, B, I + 1)
    with pytest.raises(ShapeError):
        elman.LSTM(I, H)(pack_padded_sequence(data, [5, 3]))


@pytest.mark.parametrize("name", ["lengths", "reset", "return_states"])
def test_a_packed_sequence_brings_its_own_lengths(name, x):
    options = {"lengths": [5, 3], "reset": torch.zeros(T, B).bool(), "return_states": True}
    with pytest.raises(OptionError, match="a PackedSequence brings its own lengths"):
        elman.LSTM(I, H)(pack_padded_sequence(x, [5, 3]), **{name: options[name]})


@pytest.mark.parametrize(
    "state",
    [
        (torch.zeros(B, H), torch.zeros(B, H + 1)),
        (torch.zeros(B + 1, H), torch.zeros(B + 1, H)),
        (torch.zeros(B, H),),
        torch.zeros(B, H),
        (torch.zeros(H), torch.zeros(H)),
    ],
    ids=["size", "batch", "one part", "tensor", "no batch"],
)
def test_a_state_of_another_shape_is_refused(state, x):
    message = re.escape("LSTM: state (h, c) must be [[2, 4], [2, 4]], got [")
    with pytest.raises(ShapeError, match=message):
        elman.Recurrent(cells.LSTM(I, H))(x, state)


WRONG_LENGTHS = {
    r"lengths must lie in 0 ... T = 5, got 6 at b=1": [5, 6],
    r"lengths must lie in 0 ... T = 5, got -1 at b=0": [-1, 5],
    r"lengths must be \[B\] = \[2\], got \[3\]": [5, 5, 5],
    r"lengths must be \[B\] = \[2\], got \[1\]": torch.tensor(5),
    r"lengths must be whole numbers, got torch.float64": [5.0, 2.0],
    r"lengths must be whole numbers, got torch.bool": torch.tensor([True, False]),
}


@ALL
@pytest.mark.parametrize("message", WRONG_LENGTHS)
def test_wrong_lengths_are_refused(kind, message, x):
    with pytest.raises(ShapeError, match=message):
        KINDS[kind]()(x, lengths=WRONG_LENGTHS[message])


@ALL
@pytest.mark.parametrize("dtype", [torch.int64, torch.float64], ids=str)
def test_a_reset_is_bool(kind, dtype, x):
    with pytest.raises(ShapeError, match=rf"reset must be bool, got {dtype}; use reset.bool\(\)"):
        KINDS[kind]()(x, reset=torch.zeros(T, B, dtype=dtype))


@ALL
@pytest.mark.parametrize("shape", [(T, B + 1), (T - 1, B), (B, T), (T, B, 1), (T,)], ids=str)
def test_a_reset_has_the_shape_of_x_without_its_last_axis(kind, shape, x):
    with pytest.raises(ShapeError, match="shape of x without its last axis, here T=5, B=2; got"):
        KINDS[kind]()(x, reset=torch.zeros(shape, dtype=torch.bool))


@ALL
@pytest.mark.parametrize("truncate", [0, -1, 2.0, "3", True], ids=repr)
def test_truncate_is_a_whole_number_above_zero(kind, truncate, x):
    with pytest.raises(OptionError, match="truncate must be a whole number above 0, got"):
        KINDS[kind]()(x, truncate=truncate)


class Broken(elman.Cell):
    """Returns what it was built to return."""

    def __init__(self, returned):
        super().__init__(I, h=H, c=2)
        self.returned = returned

    def step(self, x, h, c):
        return self.returned(x, h, c)


LINE = Broken.step.__code__.co_firstlineno
PLACE = rf"test_errors.py:{LINE} step"
INSIDE = rf"test_errors.py:{LINE + 1} step"


@pytest.mark.parametrize("count", [1, 3])
def test_a_step_that_returns_too_few_or_too_many_parts_is_named(count, x):
    layer = elman.Recurrent(Broken(lambda x, h, c: (h, c, h)[:count]))
    message = rf"{PLACE}: the new state must have 2 parts \(h, c\), got {count}"
    with pytest.raises(ShapeError, match=message):
        layer(x)


def test_a_step_that_returns_a_part_of_another_size_is_named(x):
    layer = elman.Recurrent(Broken(lambda x, h, c: (h, torch.cat((c, c), dim=-1))))
    message = rf"{PLACE}: state 'c' must be \[2, 2\], got \[2, 4\]; declare c=4"
    with pytest.raises(ShapeError, match=message):
        layer(x)


def test_a_step_that_drops_the_batch_is_named(x):
    layer = elman.Recurrent(Broken(lambda x, h, c: (h[0], c)))
    with pytest.raises(ShapeError, match=rf"{PLACE}: state 'h' must be \[2, 4\], got \[4\]"):
        layer(x)


@pytest.mark.parametrize("reverse,t", [(False, 0), (True, 4)])
def test_an_error_inside_a_step_carries_the_time_and_the_shapes(reverse, t, x):
    layer = elman.Recurrent(Broken(lambda x, h, c: (h.view(1, 4), c)), reverse=reverse)
    with pytest.raises(RuntimeError, match="is invalid for input") as caught:
        layer(x)
    (note,) = caught.value.__notes__
    expected = rf"in {INSIDE}: at t={t}, x is \[2, 3\], h is \[2, 4\], c is \[2, 2\]"
    assert re.fullmatch(expected, note)


def test_a_step_that_can_never_run_is_found_when_the_layer_is_built():
    with pytest.raises(RuntimeError, match="cannot be multiplied") as caught:
        elman.Recurrent(Broken(lambda x, h, c: (h @ h, c)))
    (note,) = caught.value.__notes__
    expected = rf"in {INSIDE}: for one example, x is \[1, 3\], h is \[1, 4\], c is \[1, 2\]"
    assert re.fullmatch(expected, note)


def test_errors_of_elman_are_value_errors_of_one_family():
    for error in (ShapeError, OptionError):
        assert issubclass(error, ValueError)
        assert issubclass(error, elman.ElmanError)
    # What torch raises for a tensor of the wrong shape, dtype or device.
    assert issubclass(ShapeError, RuntimeError)


def test_a_state_of_another_kind_is_refused(x):
    layer = elman.Recurrent(cells.LSTM(I, H))
    with pytest.raises(ShapeError, match="must be tensors"):
        layer(x, ([0.0], [0.0]))
    with pytest.raises(ShapeError, match=r"state 'c' is torch.float32.*c.to\(x\)"):
        layer(x, (torch.zeros(B, H), torch.zeros(B, H, dtype=torch.float32)))
    both = elman.Bidirectional(cells.GRU(I, H), cells.GRU(I, H))
    with pytest.raises(ShapeError, match="a tuple of 2.*got a Tensor"):
        both(x, torch.zeros(B, H))


def test_lengths_have_one_axis(x):
    with pytest.raises(ShapeError, match=r"lengths must be \[B\]"):
        elman.Recurrent(cells.GRU(I, H))(x, lengths=[[1]] * B)


def test_a_stack_refuses_what_is_no_state(x):
    with pytest.raises(ShapeError, match="a tuple of 1.*got a int"):
        elman.Stack([cells.GRU(I, H)])(x, 3)


@pytest.mark.parametrize("kind", ["nothing", "float32"])
def test_a_step_must_return_states_of_the_kind_that_it_was_given(kind, x):
    class Odd(elman.Cell):
        def __init__(self):
            super().__init__(I, h=H)

        def step(self, x, h):
            return None if kind == "nothing" else h.float()

    message = "must return" if kind == "nothing" else r"state 'h' must stay torch.float64"
    with pytest.raises(ShapeError, match=message):
        elman.Recurrent(Odd())(x)
