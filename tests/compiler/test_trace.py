"""What a trace knows of the source, and what it refuses."""

import itertools
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import elman
from elman import cells
from elman.cells.cell import weights_of
from elman.compiler.ir.nodes import Varies, walk
from elman.compiler.passes.simplify import simplify_step
from elman.compiler.trace.tracer import trace
from elman.errors import ElmanError, PurityError, UnsupportedError
from tests.compiler.support import Of, double

FILE = Path(__file__).name


def ops(outputs):
    return [node.op for node in walk(outputs)]


def test_lstm():
    step = trace(cells.LSTM(3, 2))
    assert step.cell == "LSTM"
    assert [s.attrs["name"] for s in step.states] == ["h", "c"]
    assert step.x.shape == (3,) and step.mask is None
    assert [n.shape for n in step.outputs] == [(2,), (2,)]
    weights = {n.attrs["name"] for n in walk(step.outputs) if n.op == "weight"}
    assert weights == {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}
    assert ops(step.outputs).count("linear") == 2
    assert "call" not in ops(step.outputs)  # no transposition is left


def test_names_are_the_authors():
    step = simplify_step(trace(cells.LSTM(3, 2)))
    by_name = {name: node for node, name in step.names.items()}
    pre_activations = ["a_i", "a_f", "a_g", "a_o"]
    assert set(by_name) == {"gates", *pre_activations, "i", "f", "g", "o", "c"}
    assert by_name["c"] is step.outputs[1]
    assert by_name["gates"].op == "add" and by_name["gates"].shape == (8,)
    assert [by_name[name].attrs["start"] for name in pre_activations] == [0, 2, 4, 6]
    assert [by_name[name].op for name in "ifgo"] == ["sigmoid", "sigmoid", "tanh", "sigmoid"]


@pytest.mark.parametrize("name", cells.CELLS)
def test_every_gate_of_a_built_in_cell_has_its_name_after_the_activation(name):
    cell = cells.CELLS[name](3, 4)
    step = simplify_step(trace(cell))
    # A candidate without an activation (SRU, minGRU, minLSTM) is named too.
    assert set(cell.gates) <= set(step.names.values())


def test_names_are_there_under_a_profiler():
    seen = []
    sys.setprofile(lambda *event: seen.append(event[1]))
    try:
        names = set(trace(cells.LSTM(3, 2)).names.values())
    finally:
        sys.setprofile(None)
    assert {"i", "f", "g", "o", "c"} <= names and seen


def test_names_of_helpers_and_lists():
    assert {"r", "x_r", "z", "n"} <= set(trace(cells.GRU(3, 2)).names.values())
    assert {"a_0", "b_7", "q1"} <= set(trace(cells.NAS(3, 2)).names.values())


def test_lines():
    first = cells.MGU.step.__code__.co_firstlineno
    step = trace(cells.MGU(3, 2))
    assert step.outputs[0].line == f"mgu.py:{first + 6}"
    lines = {node.line for node in walk(step.outputs) if node.args}
    assert lines == {f"mgu.py:{first + k}" for k in (2, 3, 4, 5, 6)}


def test_mask():
    step = trace(cells.LSTM(3, 2), masked=True)
    assert step.mask is not None and step.mask.shape == (2,)
    assert step.mask in set(walk(step.outputs))


def test_weights_of_the_step():
    cell = Of(lambda c, x, h: h * c.scale + x, 4, {"W": double(1)}, {"scale": double(4)})
    assert set(weights_of(cell)) == {"W", "scale"}
    assert {n.attrs["name"] for n in walk(trace(cell).outputs) if n.op == "weight"} == {"scale"}


def test_parametrised_weight_is_one_leaf():
    cell = cells.MGU(3, 2)
    nn.utils.parametrizations.weight_norm(cell, "weight_hh")
    leaves = {n.attrs["name"] for n in walk(trace(cell).outputs) if n.op == "weight"}
    assert leaves == {"weight_ih", "weight_hh", "bias_ih"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype):
    step = trace(cells.LayerNormLSTM(3, 2).to(dtype))
    assert ops(step.outputs) == ops(trace(cells.LayerNormLSTM(3, 2)).outputs)


def test_trace_leaves_nothing_behind():
    cell = cells.LSTM(3, 2)
    before = {name: p.clone() for name, p in cell.named_parameters()}
    trace(cell)
    for name, p in cell.named_parameters():
        assert torch.equal(p, before[name]) and p.grad is None and p.requires_grad


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * x * x

    @staticmethod
    def backward(ctx, d):
        return d


table = torch.arange(4.0)

UNSUPPORTED = {
    "torch.fft.fft": lambda c, x, h: torch.fft.fft(h).real + x,
    "torch.cumsum": lambda c, x, h: torch.cumsum(h, -1) + x,
    "torch.Tensor.sort": lambda c, x, h: h.sort(-1).values + x,
    "torch.Tensor.sum": lambda c, x, h: h + x.sum(),
    "torch.Tensor.mean": lambda c, x, h: h + x.mean(0),
    "torch.Tensor.flip": lambda c, x, h: h.flip(-1) + x,
    "torch.Tensor.max": lambda c, x, h: h.max(-1, keepdim=True).values + x,
    "torch.rand_like": lambda c, x, h: h * torch.rand_like(h) + x,
    "torch.nn.functional.dropout": lambda c, x, h: F.dropout(h, 0.5) + x,
    "torch.Tensor.add_": lambda c, x, h: (h * 1).add_(x),
    "torch.Tensor.view": lambda c, x, h: h.view(-1, 2, 2).flatten(1) + x,
    "torch.Tensor.mT.__get__": lambda c, x, h: (h.mT @ x).mT @ h,
    "torch.Tensor.transpose": lambda c, x, h: h @ x.transpose(0, 1) @ x,
    "torch.Tensor.item": lambda c, x, h: h * c.W.sum().item() + x,
    "torch.Tensor.all": lambda c, x, h: h if (h > 0).all() else x,
    "torch.Tensor.__bool__": lambda c, x, h: h * (2 if c.W[0, 0] > 0 else 3) + x,
    "torch.Tensor.add": lambda c, x, h: h + table + x,
    "torch.Tensor.mul": lambda c, x, h: (h * c.W[:, None]).sum(0) + x,
    "torch.Tensor.double": lambda c, x, h: (h.double() + x.double()).float(),
    "torch.Tensor.round": lambda c, x, h: h.round() + x,
    "torch.div": lambda c, x, h: torch.div(h, x, rounding_mode="floor"),
    "torch.arange": lambda c, x, h: h + torch.arange(4.0) + x,
    "torch.tensor": lambda c, x, h: h + torch.tensor([1.0, 2.0, 3.0, 4.0]) + x,
    "torch.Tensor.__getitem__": lambda c, x, h: torch.cat([h[..., ::2], x[..., ::2]], -1),
    "torch.stack": lambda c, x, h: torch.stack([h, x], 1).amax(1),
    "torch.Tensor.unsqueeze": lambda c, x, h: torch.bmm(
        h.unsqueeze(1), c.W.expand(len(x), 4, 4)
    ).squeeze(1),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_operation_is_named(name):
    line = Of.step.__code__.co_firstlineno + 1
    with pytest.raises(UnsupportedError) as caught:
        trace(Of(UNSUPPORTED[name], 4, {"W": torch.ones(4, 4)}))
    assert str(caught.value).startswith(f"support.py:{line} step: {name} cannot be compiled: ")


BY_ROWS = {
    "a factor": lambda c, x, h: torch.tanh(x + h) / x.shape[0],
    "len": lambda c, x, h: torch.tanh(x + h) * len(x),
    "a branch": lambda c, x, h: torch.tanh(x + h) if x.size(0) < 50 else x + h,
    "a size": lambda c, x, h: h * (x.numel() + 1),
    "a fill": lambda c, x, h: h + torch.full((4,), float(x.numel())),
}


@pytest.mark.parametrize("name", BY_ROWS)
def test_a_step_that_depends_on_the_number_of_rows_is_named(name):
    line = Of.step.__code__.co_firstlineno + 1
    cell = Of(BY_ROWS[name], 4, {"W": torch.ones(4, 4)})
    with pytest.raises(PurityError, match=rf"support.py:{line} .*the number of rows of x"):
        trace(cell)
    with pytest.raises(PurityError):
        elman.Recurrent(cell)(torch.ones(3, 2, 4))


def test_sizes_of_rows_that_make_no_difference():
    def step(cell, x, h):
        assert x.shape == h.shape and x.size(0) == x.shape[0]
        zeros = torch.zeros(x.shape[0], 2, dtype=x.dtype)
        return torch.cat([zeros, h.view(h.shape[0], -1)[:, 2:]], -1) + x.reshape(x.size(0), 4)

    trace(Of(step))


class Counting(cells.Cell):
    """Its number is another at each run, from where nobody can see it."""

    def __init__(self, size: int) -> None:
        super().__init__(size, h=size)
        self.number = itertools.count(1)

    def step(self, x, h):
        return torch.tanh(x + h) * next(self.number)


class Remembering(cells.Cell):
    def step(self, x, h):
        self.seen = x + h
        return torch.tanh(x + h)


def test_a_step_that_changes_from_run_to_run_is_refused():
    with pytest.raises(UnsupportedError, match=r"test_trace.py:\d+ .*each time it runs"):
        trace(Counting(4))
    line = Remembering.step.__code__.co_firstlineno + 1
    with pytest.raises(PurityError, match=rf"test_trace.py:{line} step: sets self.seen to a ten"):
        trace(Remembering(4, h=4))


LEAVING = {
    "torch.Tensor.tolist": lambda c, x, h: h * c.W.tolist()[0][0] + x,
    "torch.Tensor.numpy": lambda c, x, h: h * float(c.b.numpy()[0]) + x,
    "torch.Tensor.requires_grad.__get__": lambda c, x, h: h if x.requires_grad else x + h,
    "torch.Tensor.data_ptr": lambda c, x, h: h * (c.b.data_ptr() % 7) + x,
}


@pytest.mark.parametrize("name", LEAVING)
def test_what_a_trace_cannot_see_is_refused(name):
    line = Of.step.__code__.co_firstlineno + 1
    cell = Of(LEAVING[name], 4, {"W": torch.ones(4, 4)}, {"b": torch.ones(4)})
    with pytest.raises(UnsupportedError, match=f"support.py:{line} step: {name} cannot be comp"):
        trace(cell)


class Spectrum(cells.Cell):
    def step(self, x, h):
        y = x + h
        return torch.fft.fft(y).real


def test_message():
    first = Spectrum.step.__code__.co_firstlineno
    with pytest.raises(UnsupportedError) as caught:
        trace(Spectrum(4, h=4))
    assert str(caught.value) == (
        f"{FILE}:{first + 2} step: torch.fft.fft cannot be compiled: there is no rule for it"
    )


class Helped(cells.Cell):
    def step(self, x, h):
        return self.mixed(x) + h

    def mixed(self, x):
        return x.flip(-1)


def test_message_names_the_helper():
    line = Helped.mixed.__code__.co_firstlineno + 1
    with pytest.raises(UnsupportedError, match=rf"{FILE}:{line} mixed: torch.Tensor.flip cannot"):
        trace(Helped(4, h=4))


def test_gradient_of_ones_own_is_refused():
    with pytest.raises(UnsupportedError, match="gradient of its own"):
        trace(Of(lambda c, x, h: Cube.apply(h) + x))


@pytest.mark.parametrize(
    "step",
    [
        lambda c, x, h: (h, x),
        lambda c, x, h: h[..., :2],
        lambda c, x, h: h.sum(-1),
        lambda c, x, h: c.W[0],
        lambda c, x, h: None,
        lambda c, x, h: table,
    ],
)
def test_what_is_no_state_is_refused(step):
    with pytest.raises(UnsupportedError):
        trace(Of(step, 4, {"W": torch.ones(4, 4)}))


def test_step_that_fails_is_refused_with_its_reason():
    with pytest.raises(UnsupportedError, match=r"support.py:\d+ step: one example cannot") as error:
        trace(Of(lambda c, x, h: h + x[..., :3]))
    assert isinstance(error.value.__cause__, RuntimeError)
    assert isinstance(error.value, ElmanError)


def test_value_without_the_state_is_an_input():
    step = trace(Of(lambda c, x, h: (x * 2).tanh() + h))
    assert [n.varies for n in walk(step.outputs) if n.op in ("tanh", "add")] == [
        Varies.INPUT,
        Varies.STATE,
    ]


class Branching(cells.Cell):
    """A number that its text makes of x."""

    def __init__(self, number: str) -> None:
        super().__init__(4, h=4)
        self.U = nn.Parameter(torch.randn(4, 4) / 2)
        self.number = eval(f"lambda x: {number}")

    def step(self, x, h):
        return torch.tanh(x + h @ self.U) * self.number(x)


BRANCHES = (
    *("1 if x.shape[0] < 256 else 2", "1 if x.shape[0] > 2 else 2", "min(x.shape[0], 2)"),
    *("1 if x.size(0) == 1 else 2", "1 if x.numel() <= 4 else 2", "1 if len(x) > 2 else 2"),
    *("1 if x.shape[:-1] == (3,) else 2", "1 if x.size(0) % 2 else 2", "1 if x.shape[0] else 2"),
)


@pytest.mark.parametrize("number", BRANCHES)
def test_a_branch_on_the_number_of_rows_runs_the_loop(number):
    cell = Branching(number)
    layer, loop = elman.Recurrent(cell), elman.Recurrent(cell, backend="loop")
    with pytest.warns(RuntimeWarning, match="number of rows"):
        layer(torch.randn(3, 1, 4))
    for B in (1, 2, 3, 300):
        x = torch.randn(3, B, 4)
        assert torch.equal(layer(x)[0], loop(x)[0])


def test_tensors_of_as_many_rows_are_compiled():
    def step(cell, x, h):
        assert h.shape == (x.shape[0], 4) and h.size(0) == x.shape[0]
        zeros = x.new_zeros(*x.shape[:-1], 2)
        y = torch.cat([zeros, h.view(h.shape[0], -1)[:, 2:]], -1) + x.reshape(x.size(0), 4)
        return torch.tanh(y.expand(x.shape))

    trace(Of(step))


def test_erfc_keeps_its_tail():
    """1 - erf(x) has lost it: the loop runs."""
    cell, x = Of(lambda c, x, h: torch.log(torch.erfc(x + 0 * h)), 4), torch.full((2, 3, 4), 6.0)
    with pytest.warns(RuntimeWarning, match="erfc"):
        found = elman.Recurrent(cell)(x)[0]
    assert torch.equal(found, torch.log(torch.erfc(x)))


@pytest.mark.parametrize("function", [F.elu, F.selu, lambda v: F.celu(v, 0.5)])
def test_the_slope_of_an_elu_keeps_its_tail(function):
    cell = Of(lambda c, x, h: function(x + 0 * h), 4)
    x = torch.tensor([-10.0, -20.0, -6.0, 0.5]).expand(1, 3, 4)
    x, y = (x.clone().requires_grad_() for _ in range(2))
    layer = elman.Recurrent(cell)
    assert layer.plan().backend == "llvm"
    layer(x)[0].sum().backward()
    function(y).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-6, atol=0)


def test_a_plan_of_infinite_numbers_is_printed():
    def step(cell, x, h):
        y = torch.tanh(x + h) * torch.isinf(x) + (x * 1e39).clamp(-1, 1)
        return y + torch.full_like(x, torch.inf).clamp(max=1.0) + y.clamp(min=torch.nan)

    plan = elman.Recurrent(Of(step, 4)).plan()
    assert "Of on llvm" in str(plan)


@pytest.mark.parametrize("size", [5, 10, 65, 130])
def test_the_sizes_of_the_last_axis_may_be_compared(size):
    def step(cell, x, h):
        assert x.shape[-1] == size and h.size(-1) > size - 1 and cell.W.shape[0] == size
        assert cell.W.numel() == size**2
        return torch.tanh(x + F.linear(h, cell.W))

    trace(Of(step, size, {"W": torch.ones(size, size)}))


@pytest.mark.parametrize("function", [F.logsigmoid, lambda v: torch.logaddexp(v, 0 * v)])
def test_what_is_smooth_has_a_second_derivative_where_two_values_are_equal(function):
    cell = Of(lambda c, x, h: function(x + h), 4)
    x = torch.tensor([[[0.0, 1.0, -1.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    found = []
    for y in (elman.Recurrent(cell.double())(x)[0], function(x)):
        first = torch.autograd.grad(y.sum(), x, create_graph=True)[0]
        found.append(torch.autograd.grad(first.sum(), x)[0])
    torch.testing.assert_close(*found)


class Listing(elman.Cell):
    """A step with long lists among its variables, one of which counts how often it is read."""

    class Counted(list):
        reads = 0

        def __iter__(self):
            Listing.Counted.reads += 1
            return super().__iter__()

    def __init__(self):
        super().__init__(3, h=3)

    def step(self, x, h):
        numbers, counted = list(range(100_000)), Listing.Counted([x, h])
        parts = [x, h]
        for _ in range(20):
            h = torch.tanh(0.5 * h + x)
        assert numbers and counted and parts
        return h


def test_lists_of_a_step_are_neither_long_to_look_at_nor_run():
    names = set(trace(Listing()).names.values())
    assert "h" in names and Listing.Counted.reads == 0
