"""One step at a time: the same numbers as the whole sequence."""

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch._subclasses import FakeTensorMode

import elman
from elman import cells
from elman.backends.cpu.stepper import Stepper
from elman.backends.reference.eager import Eager
from elman.errors import BackendError, OptionError, ShapeError
from elman.runtime import scan
from tests.cells.cases import PLAIN
from tests.layers.zoo import BACKWARD, BOTH, FORWARD, I, built, some_state
from tests.support import (
    assert_close,
    assert_equal,
    leaves,
    mapped,
    packed,
    randomise,
    warm_state,
)

T, B = 7, 3
#: What these make of x is more than W x + b, and torch computes it: on some processors its product
#: gives a row other bits beside other rows.
BESIDE = (cells.LayerNormLSTM, cells.MinGRU, cells.MinLSTM, cells.SRU)


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
    if case.cell in BESIDE:
        assert_close(streamed(layer, x, start), layer(x, start))
        layer = elman.Recurrent(cell, deterministic="batch")
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


# ------------------------------------------------------------------ layer.stream()


def run_through(stream, x):
    """The outputs of a stream over x."""
    return torch.stack([stream(x_t) for x_t in x])


@pytest.mark.parametrize("backend", ["auto", "llvm", "eager", "loop"])
@pytest.mark.parametrize("batch", [None, B])
def test_a_stream_runs_on_the_backend_of_its_layer(backend, batch, ran):
    deep = elman.LSTM(I, 4, num_layers=2, backend=backend)
    layer = randomise(elman.Stack([deep, elman.Recurrent(cells.GRU(4, 2), backend=backend)]))
    x = torch.randn(T, I) if batch is None else torch.randn(T, B, I)
    expected, state = layer(x)
    stream = layer.stream(batch_size=batch)
    ran.clear()
    assert_close(run_through(stream, x), expected.detach())
    assert set(ran) == {"llvm" if backend == "auto" else backend}
    assert run_through(stream, x).requires_grad is False
    assert_close(run_through(layer.stream(state, batch), x), layer(x, state)[0].detach())


@pytest.fixture
def ran(monkeypatch):
    """The names of the backends that ran since, once each time."""
    names = []

    def watched(name, function):
        def call(*args, **kwargs):
            names.append(name)
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(Stepper, "step", watched("llvm", Stepper.step))
    monkeypatch.setattr(Eager, "forward", watched("eager", Eager.forward))
    monkeypatch.setattr(scan, "literal_loop", watched("loop", scan.literal_loop))
    return names


class Rolled(elman.Cell):
    """h' = tanh(roll(W x + h)): an operation that the compiler does not know."""

    def __init__(self, size):
        super().__init__(size, h=size)
        self.W = torch.nn.Parameter(torch.randn(size, size))

    def step(self, x, h):
        return torch.tanh(torch.roll(torch.nn.functional.linear(x, self.W) + h, 1, -1))


def test_a_stream_of_a_cell_without_kernels():
    with pytest.raises(BackendError, match=r"backend='llvm' cannot run Rolled: .*roll"):
        elman.Recurrent(Rolled(I), backend="llvm").stream()
    layer, x = elman.Recurrent(Rolled(I)), torch.randn(T, I)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is said once a process that this is slow
        assert_equal(run_through(layer.stream(), x), layer(x)[0].detach())


@pytest.mark.parametrize("backend", ["llvm", "eager", "loop"])
def test_a_stream_has_the_weights_of_the_moment_when_it_was_made(backend):
    layer = elman.Recurrent(cells.GRU(I, 4), backend=backend)
    x = torch.randn(T, I)
    stream, expected = layer.stream(), layer(x)[0].detach()
    randomise(layer)
    assert_close(run_through(stream, x), expected)
    stream.reset()
    assert_close(run_through(stream, x), expected)


@pytest.mark.parametrize("backend", ["llvm", "eager", "loop"])
def test_a_stream_goes_on_from_the_state_it_is_given(backend):
    layer = elman.Recurrent(cells.LSTM(I, 4), backend=backend)
    x = torch.randn(T, B, I)
    stream = layer.stream(batch_size=B)
    first = run_through(stream, x[:3])
    between = stream.state
    second = run_through(stream, x[3:])
    assert_close(torch.cat((first, second)), layer(x)[0].detach())
    stream.state = between
    assert_equal(run_through(stream, x[3:]), second)
    for wrong in ((), ((torch.zeros(1, 4),) * 2,), ((torch.zeros(B, 4).float(),) * 2,)):
        with pytest.raises(ShapeError, match=r"Recurrent.stream: the state is what"):
            stream.state = wrong


@pytest.mark.parametrize("backend", ["llvm", "eager", "loop"])
def test_a_stream_drops_nothing(backend):
    layer = elman.Recurrent(cells.LSTM(I, 4), zoneout={"c": 0.5, "h": 0.1}, backend=backend)
    x = torch.randn(T, B, I)
    assert layer.training
    found = run_through(layer.stream(batch_size=B), x)
    assert_close(found, layer.eval()(x)[0].detach())


def test_a_stream_under_autocast_computes_as_the_layer_does():
    layer, x = elman.LSTM(I, 4).float(), torch.randn(T, I).float()
    with torch.autocast("cpu"):
        found = run_through(layer.stream(), x)
    assert found.dtype == torch.float32
    assert_equal(found, layer(x)[0].detach())


DEEP = {
    "residual where some sizes match": lambda: elman.Stack(
        [cells.GRU(I, 4), cells.LSTM(4, 4), cells.Elman(4, 4), cells.MGU(4, 2)], residual=True
    ),
    "layer_norm": lambda: elman.Stack([cells.GRU(I, 4), cells.LSTM(4, 2)], layer_norm=True),
    "both, of deep layers": lambda: elman.Stack(
        [elman.LSTM(I, I, num_layers=2), cells.GRU(I, I)], residual=True, layer_norm=True
    ),
    "stacks in a stack": lambda: elman.Stack(
        [elman.Stack([cells.GRU(I, I), cells.LSTM(I, I)], residual=True), elman.GRU(I, I)],
        residual=True,
        layer_norm=True,
    ),
    "one layer": lambda: elman.Stack([cells.GRU(I, I)], residual=True),
}


@pytest.mark.parametrize("batch", [None, B])
@pytest.mark.parametrize("name", DEEP)
def test_a_stream_of_a_stack_is_the_whole_sequence(name, batch):
    layer = randomise(DEEP[name]())
    layer.dropout = 0.5
    x = torch.randn(T, I) if batch is None else torch.randn(T, B, I)
    _, last = layer(x)  # a state that it comes to, whatever it drops
    streams = [(layer.stream(batch_size=batch), None), (layer.stream(last, batch), last)]
    layer.eval()
    for stream, start in streams:
        found = run_through(stream, x.clone().requires_grad_())
        assert_close(found, layer(x, start)[0].detach())
        assert not found.requires_grad
        stream.reset()
        assert_equal(run_through(stream, x), found)


def test_a_stream_has_the_norms_of_the_moment_when_it_was_made():
    layer = elman.Stack([cells.GRU(I, 4), cells.LSTM(4, 2)], layer_norm=True)
    x = torch.randn(T, I)
    stream, expected = layer.stream(), layer(x)[0].detach()
    randomise(layer)
    assert_close(run_through(stream, x), expected)


# ------------------------------------------------------------------ what is whose


def deep(backend):
    cell = elman.Recurrent(cells.GRU(4, 4), backend=backend)
    layers = [elman.LSTM(I, 4, num_layers=2, backend=backend), cell]
    return randomise(elman.Stack(layers, layer_norm=True, residual=True))


@pytest.mark.parametrize("backend", ["llvm", "eager", "loop"])
@pytest.mark.parametrize("batch", [None, B])
def test_what_a_stream_hands_out_is_the_callers(backend, batch):
    layer = deep(backend)
    x = torch.randn(T, I) if batch is None else torch.randn(T, B, I)
    expected, last = layer(x)
    start = mapped(lambda part: part.detach().clone(), layer(x)[1])
    stream, given = layer.stream(start, batch), layer.stream(batch_size=batch)
    for part in leaves(start):
        part.zero_()
    assert_close(run_through(stream, x), layer(x, last)[0].detach())
    for x_t, right in zip(x, expected, strict=True):
        y = given(x_t)
        assert_close(y, right.detach())
        for mine in (y, *leaves(given.state)):
            mine.zero_()
    before = given.state
    given.state = before
    for part in leaves(before):
        part.zero_()
    assert all(part.any() for part in leaves(given.state))


@pytest.mark.parametrize("backend", ["llvm", "eager", "loop"])
@pytest.mark.parametrize("batch", [None, B])
def test_a_copy_of_a_stream_goes_on_by_itself(backend, batch):
    layer = deep(backend)
    x = torch.randn(T, I) if batch is None else torch.randn(T, B, I)
    stream = layer.stream(layer(x)[1], batch)
    expected = run_through(stream, x)
    stream.reset()
    first = run_through(stream, x[:3])
    made = [copy.copy(stream), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))]
    randomise(layer)
    for other in (*made, stream):
        assert_equal(torch.cat((first, run_through(other, x[3:]))), expected)
        other.reset()
        assert_equal(run_through(other, x), expected)


class Scaled(elman.Cell):
    """h' = f(s (W x + h)) + b: a module, a number and a buffer that may change."""

    def __init__(self, size):
        super().__init__(size, h=size)
        self.W = torch.nn.Linear(size, size)
        self.f = torch.nn.Tanh()
        self._scale = 0.5
        self.register_buffer("b", torch.randn(size))

    def step(self, x, h):
        return self.f(self._scale * (self.W(x) + h)) + self.b


@pytest.mark.parametrize("backend", ["llvm", "eager", "loop"])
def test_a_stream_has_the_cell_of_the_moment_when_it_was_made(backend):
    layer = elman.Recurrent(Scaled(I), backend=backend)
    x = torch.randn(T, I)
    expected, stream = layer(x)[0].detach(), layer.stream()
    layer.cell._scale, layer.cell.f = 2.0, torch.nn.Sigmoid()
    layer.cell.b.zero_()
    assert_close(run_through(stream, x), expected)
    assert_close(run_through(pickle.loads(pickle.dumps(layer.stream())), x), layer(x)[0].detach())
    stream.reset()
    assert_close(run_through(pickle.loads(pickle.dumps(stream)), x), expected)


@pytest.mark.parametrize("backend", ["llvm", "loop"])
def test_threads_take_the_steps_of_a_stream_in_turn(backend):
    stream = elman.GRU(I, 4, backend=backend).stream()
    x = torch.randn(I)
    right = {tuple(stream(x).tolist()) for _ in range(40)}
    stream.reset()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: tuple(stream(x).tolist()), range(40)))
    assert set(found) == right


def fake(x):
    with FakeTensorMode():
        return torch.zeros(x.shape, dtype=x.dtype)


REFUSED = {
    "meta": lambda x: x.to("meta"),
    "fake": fake,
    "sparse": lambda x: x.to_sparse(),
    "other dtype": lambda x: x.float(),
    "other shape": lambda x: x[None],
    "no tensor": lambda x: x.tolist(),
    "no memory": lambda x: torch._efficientzerotensor(x.shape, dtype=x.dtype),
}
TAKEN = {
    "negative bit": lambda x: torch._neg_view(-x),
    "strides": lambda x: torch.stack((x, x), -1)[..., 0],
    "a parameter": torch.nn.Parameter,
}


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("batch", [None, B])
def test_what_a_stream_reads_is_a_tensor_with_memory(batch):
    layer = elman.LSTM(I, 4)
    stream, x = layer.stream(batch_size=batch), torch.randn([I] if batch is None else [B, I])
    right = stream(x)
    for name, make in REFUSED.items():
        with pytest.raises(ShapeError, match="stream: "):
            print(name, stream(make(x)))
    for make in TAKEN.values():
        stream.reset()
        assert_equal(stream(make(x)), right)
    with pytest.raises(ShapeError, match="transform of torch.func"):
        torch.vmap(stream)(torch.stack((x, x)))


class Leak(elman.Cell):
    """A cell without parameters: h' = 0.9 h + 0.1 tanh(x)."""

    def __init__(self, decay: torch.Tensor | None = None) -> None:
        super().__init__(I, h=I)
        self.register_buffer("decay", decay)

    def step(self, x, h):
        decay = 0.9 if self.decay is None else self.decay
        return decay * h + 0.1 * torch.tanh(x)


@pytest.mark.parametrize("decay", [None, torch.full((I,), 0.8, dtype=torch.float64)])
def test_a_cell_without_parameters_streams(decay):
    x = torch.randn(5, 2, I, dtype=None if decay is None else decay.dtype)
    layer = elman.Recurrent(Leak(decay))
    stream = layer.stream(batch_size=2)
    found = torch.stack([stream(x_t) for x_t in x])
    assert_close(found, layer(x)[0])


@pytest.mark.parametrize("state", [None, "abc", (("a",),), ((torch.zeros(1, 4).to_sparse(),) * 2,)])
def test_what_is_no_state_is_refused(state):
    stream = elman.LSTM(4, 4).stream()
    with pytest.raises(ShapeError, match="the state is what stream.state returns"):
        stream.state = state


class OfWeights(elman.Cell):
    """A part of the state that no input reaches."""

    def __init__(self):
        super().__init__(3, h=4, q=4)
        self.W, self.k = torch.nn.Linear(3, 4), torch.nn.Parameter(torch.rand(4))

    def step(self, x, h, q):
        return torch.tanh(self.W(x) + h + q), torch.sigmoid(self.k).expand_as(q)


@pytest.mark.parametrize("backend", ["llvm", "eager", "loop"])
def test_a_part_made_of_weights_alone_is_streamed(backend):
    layer, x = elman.Recurrent(OfWeights(), backend=backend).eval(), torch.randn(5, 2, 3)
    stream = layer.stream(batch_size=2)
    torch.testing.assert_close(torch.stack([stream(x_t) for x_t in x]), layer(x)[0].detach())


@pytest.mark.parametrize("wrong", [4, "a", 1.5])
def test_a_state_that_is_none_is_named(wrong):
    with pytest.raises(ShapeError, match=r"batch_size=4"):
        elman.GRU(3, 4).eval().stream(wrong)
