"""A compiled layer is a torch module like any other: modes, copies, threads, memory."""

import copy
import gc
import io
import pickle
import threading
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from elman.cells import LSTM
from elman.errors import BackendError
from elman.runtime.dispatch import ENGINES
from tests.backends.layers import (
    BACKENDS,
    FAST,
    answers,
    assert_as_the_loop,
    layer_of,
    literal,
    weights,
)
from tests.support import leaves, randomise


@pytest.fixture(autouse=True)
def _in_float64(float64) -> None:
    """Ask for the fixture `float64` in every test of this file."""


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


# ------------------------------------------------------------------ torch.func and forward mode


def _functional(layer: nn.Module):
    return lambda x: torch.func.functional_call(layer, dict(layer.named_parameters()), (x,))[0]


def test_transforms_of_torch_func() -> None:
    layer, x = layer_of("auto"), torch.randn(4, 3, 3)
    fast, slow = _functional(layer), _functional(literal(layer))
    batch = torch.randn(2, 4, 3, 3)
    pairs = [
        (torch.func.vmap(f)(batch), torch.func.jvp(f, (x,), (x.cos(),)), torch.func.jacrev(f)(x))
        for f in (fast, slow)
    ]
    for f, e in zip(leaves(pairs[0]), leaves(pairs[1]), strict=True):
        torch.testing.assert_close(f, e, rtol=1e-11, atol=1e-11)


def test_forward_mode() -> None:
    layer, x, tangent = layer_of("auto"), torch.randn(4, 3, 3), torch.randn(4, 3, 3)
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
    layer, all_buffers = layer_of(backend), []
    options = {k: torch.rand(6, 4) < 0.5 if v is None else v for k, v in options.items()}
    forward = ENGINES[backend].forward

    def watched(*runs) -> None:
        all_buffers.extend(weakref.ref(buffers) for _, buffers in runs)
        forward(*runs)

    monkeypatch.setattr(ENGINES[backend], "forward", watched)
    gc.collect()
    gc.disable()
    try:
        x = torch.randn(6, 4, 3, requires_grad=True)
        outputs, state = layer(x, **options)
        assert all_buffers and all(
            ref() is None for ref in all_buffers
        )  # torch keeps what is read later
        alive = [weakref.ref(x), weakref.ref(outputs)]
        assert all(ref() is not None for ref in alive)
        if backward:
            (outputs.sum() + state[0].sum()).backward()
        del x, outputs, state
        assert [ref() for ref in alive] == [None] * len(alive)
    finally:
        gc.enable()


def test_a_plan_goes_when_its_cell_goes() -> None:
    """And with it the kernels' packed weights."""
    layer = layer_of("llvm")
    layer(torch.randn(2, 2, 3))
    plan = weakref.ref(layer.plan().cells[0].choice.plan)
    assert plan() is not None
    del layer
    gc.collect()
    assert plan() is None
