"""A compiled layer is a torch module like any other, however it is called."""

import copy
import gc
import io
import pickle
import threading
import warnings
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

import elman
from elman.backends.choose import ENGINES
from elman.backends.llvm import engine
from elman.cells import GRU, LSTM, LayerNormLSTM
from elman.errors import BackendError
from elman.scan import Execution
from tests.support import leaves, randomise

BACKENDS = ("eager", "llvm")
FAST = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(autouse=True)
def _in_float64(float64) -> None:
    """Ask for the fixture `float64` in every test of this file."""


def layer_of(backend: str, cell: elman.Cell | None = None, **options) -> elman.Recurrent:
    return elman.Recurrent(cell or randomise(LSTM(3, 5)), backend=backend, **options)


def literal(layer: nn.Module) -> nn.Module:
    """The layer on the same parameters, run by the literal loop."""
    shared = {id(p): p for p in layer.parameters()}
    twin = copy.deepcopy(layer, shared)
    for module in twin.modules():
        if isinstance(module, elman.Recurrent):
            module.execution = Execution("loop")
    return twin


def answers(layer: nn.Module, x: Tensor, state=None, wrt=(), **options) -> list[Tensor]:
    """Outputs, state, and the gradients of a sum that no two outputs enter alike."""
    results = leaves(layer(x, state, **options))
    total = sum((r * torch.linspace(-1, 1, r.numel()).view(r.shape)).sum() for r in results)
    if not wrt:
        return [r.detach() for r in results]
    return [
        *(r.detach() for r in results),
        *torch.autograd.grad(total, wrt, materialize_grads=True),
    ]


def assert_as_the_loop(layer: nn.Module, x: Tensor, state=None, wrt=(), **options) -> None:
    """The layer gives the loop's answers, and its gradients with respect to ``wrt``."""
    found = answers(layer, x, state, wrt, **options)
    expected = answers(literal(layer), x, state, wrt, **options)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-11, atol=1e-11)


def weights(layer: nn.Module) -> list[nn.Parameter]:
    return [p for p in layer.parameters() if p.requires_grad]


# ------------------------------------------------------------------ inputs of every kind


@FAST
@pytest.mark.parametrize("T, B", [(0, 2), (3, 0), (0, 0), (1, 1)])
def test_a_call_on_nothing(backend, T, B) -> None:
    layer = layer_of(backend)
    x = torch.randn(T, B, 3, requires_grad=True)
    state = tuple(torch.randn(B, 5, requires_grad=True) for _ in range(2))
    assert_as_the_loop(layer, x, state, wrt=[x, *state, *weights(layer)])
    assert_as_the_loop(layer, x, reset=torch.rand(T, B) < 0.5, truncate=2)
    assert_as_the_loop(layer, x, lengths=torch.full((B,), T))


@FAST
def test_sequences_that_are_all_empty(backend) -> None:
    layer, x = layer_of(backend), torch.randn(4, 3, 3, requires_grad=True)
    state = tuple(torch.randn(3, 5, requires_grad=True) for _ in range(2))
    wrt = [x, *state, *weights(layer)]
    assert_as_the_loop(layer, x, state, wrt, lengths=torch.zeros(3, dtype=torch.int64))
    reset = torch.ones(4, 3, dtype=torch.bool)
    assert_as_the_loop(layer, x, state, wrt, lengths=torch.zeros(3, dtype=torch.int64), reset=reset)


LAYOUTS = {
    "transposed": lambda: torch.randn(4, 6, 3).transpose(0, 1),
    "features first": lambda: torch.randn(3, 4, 6).permute(2, 1, 0),
    "every other": lambda: torch.randn(12, 8, 6)[::2, ::2, ::2],
    "expanded in time": lambda: torch.randn(1, 4, 3).expand(6, -1, -1),
    "expanded in the batch": lambda: torch.randn(6, 1, 3).expand(-1, 4, -1),
    "in the middle of a buffer": lambda: torch.randn(100)[7:79].view(6, 4, 3),
}


@FAST
@pytest.mark.parametrize("layout", LAYOUTS)
def test_x_in_any_layout(backend, layout) -> None:
    layer, x = layer_of(backend), LAYOUTS[layout]().requires_grad_()
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])
    assert_as_the_loop(layer, x, wrt=[x], lengths=[6, 0, 2, 5])


@FAST
def test_state_and_cotangents_in_any_layout(backend) -> None:
    layer, x = layer_of(backend), torch.randn(6, 4, 3)
    made = (
        torch.randn(5, 4).t(), torch.randn(1, 5).expand(4, -1), torch.randn(4, 1).expand(-1, 5)
    )  # fmt: skip
    for h in made:
        state = (h.requires_grad_(), torch.randn(5, 4).t().requires_grad_())
        assert_as_the_loop(layer, x, state, wrt=[*state, *weights(layer)])
        for which in (layer, literal(layer)):  # sum() gives a cotangent that is expanded
            outputs, last = which(x, state)
            (outputs.sum() + last[0].t().sum() + last[1].sum()).backward()
        torch.testing.assert_close(h.grad, h.grad)  # both layers have added to it
    again = [p.grad for p in layer.parameters()]
    assert all(g is not None and g.isfinite().all() for g in again)


@FAST
def test_layers_in_both_directions_and_on_top_of_each_other(backend) -> None:
    cells = [randomise(c) for c in (LSTM(3, 4), GRU(3, 4))]
    both = elman.Bidirectional(*(layer_of(backend, c, reverse=r) for r, c in enumerate(cells)))
    stack = elman.Stack([both, layer_of(backend, randomise(GRU(8, 2)))])
    x = torch.randn(6, 4, 3, requires_grad=True)
    assert_as_the_loop(stack, x, wrt=[x, *weights(stack)], lengths=[6, 0, 2, 5])


# ------------------------------------------------------------------ which gradients are wanted


@FAST
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (0, 3), (1, 2), ()])
def test_gradients_for_some_of_the_parameters(backend, wanted) -> None:
    for cell in (LSTM(3, 5), LayerNormLSTM(3, 5), GRU(3, 5)):
        layer = layer_of(backend, randomise(cell))
        for index, parameter in enumerate(layer.parameters()):
            parameter.requires_grad_(index in wanted)
        x = torch.randn(5, 4, 3)
        assert_as_the_loop(layer, x, wrt=weights(layer))
        outputs, _ = layer(x)
        assert outputs.requires_grad == bool(wanted)
        x.requires_grad_()
        assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])


class Twice(elman.Cell):
    """h' = tanh(W x + W h): one parameter in two places."""

    def __init__(self, size: int) -> None:
        super().__init__(size, h=size)
        self.W = nn.Parameter(torch.randn(size, size) * 0.5)

    def step(self, x, h):
        return torch.tanh(F.linear(x, self.W) + F.linear(h, self.W))


@FAST
def test_a_parameter_in_two_places(backend) -> None:
    layer, x = layer_of(backend, Twice(4)), torch.randn(5, 3, 4, requires_grad=True)
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])
    cell = Twice(4)
    cell.V = cell.W
    assert_as_the_loop(layer_of(backend, cell), x, wrt=[x, cell.W])


@FAST
def test_a_cell_in_two_layers(backend) -> None:
    cell = randomise(GRU(4, 4))
    stack = elman.Stack([layer_of(backend, cell), layer_of(backend, cell)])
    x = torch.randn(5, 3, 4, requires_grad=True)
    assert len(weights(stack)) == len(weights(cell))
    assert_as_the_loop(stack, x, wrt=[x, *weights(stack)])


# ------------------------------------------------------------------ parameters that change


def _data(layer: nn.Module) -> None:
    for p in layer.parameters():
        p.data.mul_(0.5)


def _no_grad(layer: nn.Module) -> None:
    with torch.no_grad():
        layer.cell.weight_hh[1, 2] += 1e-6  # one number, a little


def _optimizer(layer: nn.Module) -> None:
    layer(torch.randn(3, 2, 3))[0].square().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()


def _exchanged(layer: nn.Module) -> None:
    for p in layer.parameters():
        p.data = torch.randn_like(p)


def _replaced(layer: nn.Module) -> None:
    layer.cell.weight_hh = nn.Parameter(torch.randn_like(layer.cell.weight_hh))


def _loaded(layer: nn.Module) -> None:
    layer.load_state_dict({n: torch.randn_like(p) for n, p in layer.state_dict().items()})


def _frombytes(layer: nn.Module) -> None:
    layer.cell.weight_hh.detach().numpy()[0, 0] += 1.0  # torch does not see it


@FAST
@pytest.mark.parametrize(
    "change", [_data, _no_grad, _optimizer, _exchanged, _replaced, _loaded, _frombytes]
)
def test_parameters_changed_between_calls(backend, change) -> None:
    layer, x = layer_of(backend), torch.randn(5, 3, 3, requires_grad=True)
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])
    change(layer)
    with torch.no_grad():
        assert_as_the_loop(layer, x)
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)])


@FAST
@pytest.mark.parametrize("changed", ["outputs", "x", "state", "parameter"])
def test_a_change_in_place_before_backward_is_an_error(backend, changed) -> None:
    """What the backward pass reads must be as the forward pass left it, as in the loop."""
    layer = layer_of(backend)
    x = torch.randn(5, 3, 3)
    state = tuple(torch.randn(3, 5, requires_grad=True) for _ in range(2))
    outputs, last = layer(x, state)
    total = outputs.square().sum() + last[0].sum()
    with torch.no_grad():
        {"outputs": outputs, "x": x, "state": state[0], "parameter": layer.cell.weight_hh}[
            changed
        ].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


# ------------------------------------------------------------------ torch's modes and copies


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_runs_without_kernels_of_its_own(dtype) -> None:
    layer = layer_of("auto").to(dtype)
    x = torch.randn(6, 4, 3).to(dtype).requires_grad_()
    wrt = [x, *weights(layer)]
    found, expected = answers(layer, x, wrt=wrt), answers(literal(layer), x, wrt=wrt)
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == e.dtype
        torch.testing.assert_close(f.double(), e.double(), rtol=3e-2, atol=3e-2)
    with pytest.raises(BackendError, match=str(dtype)):
        layer_of("llvm").to(dtype)(x)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_autocast_around_the_layer(backend) -> None:
    layer = layer_of(backend).to(torch.float32)
    x = torch.randn(6, 4, 3, dtype=torch.float32, requires_grad=True)
    wrt = [x, *weights(layer)]
    exact = answers(literal(layer), x, wrt=wrt)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = answers(layer, x, wrt=wrt)
        expected = answers(literal(layer), x, wrt=wrt)
    for f, e, loop in zip(found, exact, expected, strict=True):
        assert f.dtype == loop.dtype
        torch.testing.assert_close(f.float(), e, rtol=0.1, atol=0.1)


@FAST
@pytest.mark.parametrize("options", [{}, {"lengths": [6, 0, 2, 5]}, {"truncate": 2}])
def test_inference_mode_first_and_training_after_it(backend, options) -> None:
    layer = layer_of(backend, randomise(LSTM(3, 6)))
    with torch.inference_mode():
        assert_as_the_loop(layer, torch.randn(6, 4, 3), **options)
    x = torch.randn(6, 4, 3, requires_grad=True)
    assert_as_the_loop(layer, x, wrt=[x, *weights(layer)], **options)


@FAST
def test_copies_of_a_layer_that_has_run(backend) -> None:
    layer, x = layer_of(backend), torch.randn(5, 3, 3)
    before = answers(layer, x)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    fresh = layer_of(backend)
    fresh.load_state_dict(layer.state_dict())
    copies = (
        copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)),
        torch.load(file, weights_only=False), fresh,
    )  # fmt: skip
    with torch.no_grad():
        layer.cell.weight_hh.zero_()  # the copies have their own
    for other in copies:
        for f, e in zip(answers(other, x), before, strict=True):
            assert torch.equal(f, e)
        assert_as_the_loop(other, x, wrt=weights(other))


@FAST
def test_backward_twice(backend) -> None:
    layer, x = layer_of(backend), torch.randn(5, 3, 3, requires_grad=True)
    total = layer(x, reset=torch.rand(5, 3) < 0.5)[0].square().sum()
    first = torch.autograd.grad(total, [x, *weights(layer)], retain_graph=True)
    second = torch.autograd.grad(total, [x, *weights(layer)])
    for f, s in zip(first, second, strict=True):
        assert torch.equal(f, s)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(total, x)


@FAST
def test_two_forwards_before_one_backward(backend) -> None:
    layer = layer_of(backend)
    xs = [torch.randn(5, 3, 3, requires_grad=True) for _ in range(2)]
    wrt = [*xs, *weights(layer)]

    def gradients(which: nn.Module) -> tuple[Tensor, ...]:
        first, second = (which(x)[0] for x in xs)
        return torch.autograd.grad((first * second).sum(), wrt)

    for f, e in zip(gradients(layer), gradients(literal(layer)), strict=True):
        torch.testing.assert_close(f, e, rtol=1e-11, atol=1e-11)


@FAST
def test_several_python_threads_at_once(backend) -> None:
    layer = layer_of(backend, randomise(LSTM(3, 17)))
    xs = [torch.randn(9, B, 3, requires_grad=True) for B in (1, 2, 5, 8, 13, 20)]
    expected = [answers(layer, x, wrt=[x, *weights(layer)]) for x in xs]
    fresh = layer_of(backend, copy.deepcopy(layer.cell))  # compiled by several threads at once
    found: dict[int, list[Tensor]] = {}

    def work(index: int) -> None:
        for _ in range(5):
            found[index] = answers(fresh, xs[index], wrt=[xs[index], *weights(fresh)])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, e in enumerate(expected):
        for a, b in zip(found[index], e, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------ what has no kernel


class Rolled(elman.Cell):
    """h' = tanh(roll(W x + h)): an operation that the compiler does not know."""

    def __init__(self, size: int) -> None:
        super().__init__(size, h=size)
        self.W = nn.Parameter(torch.randn(size, size))

    def step(self, x, h):
        return torch.tanh(torch.roll(F.linear(x, self.W) + h, 1, -1))


def test_an_unknown_operation_runs_the_loop_and_says_so_once() -> None:
    layer, x = layer_of("auto", Rolled(4)), torch.randn(5, 3, 4)
    with pytest.warns(RuntimeWarning, match=r"Rolled runs as the literal loop.*test_calls.py:\d+"):
        found = layer(x)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(layer(x)[0], found)
        assert torch.equal(literal(layer)(x)[0], found)


def test_an_unknown_operation_is_an_error_where_kernels_were_asked_for() -> None:
    with pytest.raises(BackendError, match=r"Rolled: test_calls.py:\d+.*roll"):
        layer_of("llvm", Rolled(4))(torch.randn(5, 3, 4))


# ------------------------------------------------------------------ compiled once


def test_neither_batch_nor_length_compiles_anew(monkeypatch) -> None:
    layer, compiled = layer_of("llvm", randomise(GRU(3, 6))), []
    load = engine.jit.load

    def counted(text: str, key: str):
        compiled.append(key)
        return load(text, key)

    monkeypatch.setattr(engine.jit, "load", counted)

    def call(T: int, B: int, **options) -> None:
        x = torch.randn(T, B, 3)
        outputs, _ = layer(x, **options)
        outputs.sum().backward()
        with torch.no_grad():
            layer(x, **options)

    call(4, 2)
    kernels = [key for key in compiled if key in ("training", "inference", "backward")]
    assert sorted(kernels) == ["backward", "inference", "training"]
    compiled.clear()
    for T, B in ((1, 1), (4, 3), (100, 1), (2, 70)):
        call(T, B)
        call(T, B, lengths=torch.randint(0, T + 1, (B,)))
        call(T, B, reset=torch.rand(T, B) < 0.5, truncate=2)
    with torch.no_grad():
        layer.cell.weight_hh.mul_(2)
    call(4, 2)
    assert not compiled


# ------------------------------------------------------------------ torch.func and forward mode


def _functional(layer: nn.Module):
    return lambda x: torch.func.functional_call(layer, dict(layer.named_parameters()), (x,))[0]


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_transforms_of_torch_func(backend) -> None:
    layer, x = layer_of(backend), torch.randn(4, 3, 3)
    fast, slow = _functional(layer), _functional(literal(layer))
    batch = torch.randn(2, 4, 3, 3)
    pairs = [
        (torch.func.vmap(f)(batch), torch.func.jvp(f, (x,), (x.cos(),)), torch.func.jacrev(f)(x))
        for f in (fast, slow)
    ]
    for f, e in zip(leaves(pairs[0]), leaves(pairs[1]), strict=True):
        torch.testing.assert_close(f, e, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_forward_mode(backend) -> None:
    layer, x, tangent = layer_of(backend), torch.randn(4, 3, 3), torch.randn(4, 3, 3)
    found = []
    for which in (layer, literal(layer)):
        with forward_ad.dual_level():
            outputs, _ = which(forward_ad.make_dual(x, tangent))
            found.append(forward_ad.unpack_dual(outputs).tangent)
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-11)


# ------------------------------------------------------------------ memory


@FAST
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("options", [{}, {"lengths": [6, 0, 2, 5]}, {"reset": None}])
def test_nothing_outlives_the_results(backend, backward, options, monkeypatch) -> None:
    """No cycle of references keeps the memory of a run until the garbage is collected."""
    layer, tapes = layer_of(backend), []
    options = {k: torch.rand(6, 4) < 0.5 if v is None else v for k, v in options.items()}
    forward = ENGINES[backend].forward

    def watched(plan, tape) -> None:
        tapes.append(weakref.ref(tape))
        forward(plan, tape)

    monkeypatch.setattr(ENGINES[backend], "forward", watched)
    gc.collect()
    gc.disable()
    try:
        x = torch.randn(6, 4, 3, requires_grad=True)
        outputs, state = layer(x, **options)
        alive = [weakref.ref(x), weakref.ref(outputs), *tapes]
        assert tapes and all(ref() is not None for ref in alive)
        if backward:
            (outputs.sum() + state[0].sum()).backward()
        del x, outputs, state
        assert [ref() for ref in alive] == [None] * len(alive)
    finally:
        gc.enable()


def test_kernels_go_when_their_cell_goes(monkeypatch) -> None:
    plans = ENGINES["llvm"]._programs
    gc.collect()
    before = len(plans)
    layer = layer_of("llvm")
    layer(torch.randn(2, 2, 3))
    assert len(plans) == before + 1
    del layer
    gc.collect()
    assert len(plans) == before
