"""Layers under torch's transforms, and in more than one thread."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch.func import functional_call, jacrev, jvp, stack_module_state, vmap

import elman
from elman import cells
from elman.testing import TOLERANCE
from tests.layers.zoo import EVERY, I, built
from tests.support import assert_close, assert_equal, leaves

T, B = 4, 2
LAYERS = {
    "Recurrent LSTM": lambda: elman.Recurrent(cells.LSTM(I, 2)),
    "Recurrent reverse GRU": lambda: elman.Recurrent(cells.GRU(I, 2), reverse=True),
    "Recurrent RHN": lambda: elman.Recurrent(cells.RHN(I, 2)),
    "LSTM": lambda: elman.LSTM(I, 2, num_layers=2, bidirectional=True),
    "GRU": lambda: elman.GRU(I, 2),
}
ALL = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())


@ALL
def test_vmap_over_inputs_equals_a_loop(layer):
    layer = layer()
    many = torch.randn(5, T, B, I)
    expected = [leaves(layer(x)) for x in many]
    found = leaves(vmap(layer)(many))
    assert_close(found, list(map(torch.stack, zip(*expected, strict=True))))


@ALL
def test_vmap_over_inputs_with_lengths_and_resets_equals_a_loop(layer):
    layer = layer()
    many = torch.randn(5, T, B, I)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[2, 1] = True

    def run(x):
        return layer(x, lengths=[3, 4], reset=reset)

    expected = [leaves(run(x)) for x in many]
    assert_close(leaves(vmap(run)(many)), list(map(torch.stack, zip(*expected, strict=True))))


@ALL
def test_vmap_over_an_ensemble_of_parameters_equals_a_loop(layer):
    ensemble = [layer() for _ in range(4)]
    parameters, buffers = stack_module_state(ensemble)
    x = torch.randn(T, B, I)
    base = copy.deepcopy(ensemble[0]).to("meta")

    def run(parameters, buffers):
        return functional_call(base, (parameters, buffers), x)

    found = leaves(vmap(run)(parameters, buffers))
    expected = [leaves(member(x)) for member in ensemble]
    assert not torch.equal(expected[0][0], expected[1][0])
    assert_close(found, list(map(torch.stack, zip(*expected, strict=True))))


@ALL
def test_jvp_equals_the_product_with_the_jacobian(layer):
    layer = layer()
    x, tangent = torch.randn(T, B, I), torch.randn(T, B, I)
    outputs, moved = jvp(lambda x: layer(x)[0], (x,), (tangent,))
    assert_close(outputs, layer(x)[0])
    x.requires_grad_()
    rows = [torch.autograd.grad(o, x, retain_graph=True)[0] for o in layer(x)[0].flatten()]
    expected = torch.stack([(row * tangent).sum() for row in rows]).view_as(outputs)
    assert_close(moved, expected)


@ALL
def test_jacrev_equals_a_loop_over_the_outputs(layer):
    layer = layer()
    x = torch.randn(T, B, I, requires_grad=True)
    outputs, _ = layer(x)
    rows = [torch.autograd.grad(o, x, retain_graph=True)[0] for o in outputs.flatten()]
    expected = torch.stack(rows).view(*outputs.shape, *x.shape)
    assert_close(jacrev(lambda x: layer(x)[0])(x.detach()), expected)


@ALL
def test_the_gradient_of_a_gradient_equals_finite_differences(layer):
    layer = layer()
    names = [name for name, _ in layer.named_parameters()]
    parameters = [p.detach() for p in layer.parameters()]
    x, direction = torch.randn(T, B, I), torch.randn(T, B, I)

    def slope(x, *values):
        x = x.detach().requires_grad_() if not x.requires_grad else x
        outputs, _ = functional_call(layer, dict(zip(names, values, strict=True)), x)
        return torch.autograd.grad(outputs.square().sum(), x, create_graph=True)[0]

    x.requires_grad_()
    (found,) = torch.autograd.grad((slope(x, *parameters) * direction).sum(), x)
    eps = 1e-5
    with torch.no_grad():
        ahead, back = x + eps * direction, x - eps * direction
    expected = (slope(ahead, *parameters) - slope(back, *parameters)) / (2 * eps)
    torch.testing.assert_close(found, expected.detach(), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_a_copied_or_pickled_layer_computes_the_same_and_shares_nothing(name):
    layer = built(name)
    x = torch.randn(T, B, I)
    expected = layer(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_equal(twin(x), expected)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        assert_equal(layer(x), expected)


@pytest.mark.parametrize("rates", [{}, {"state_dropout": 0.5}], ids=["plain", "state dropout"])
@pytest.mark.parametrize("kind", ["Recurrent", "LSTM"])
def test_two_threads_may_run_one_layer_at_once(kind, rates):
    cell = cells.LSTM(I, 8)
    layer = elman.Recurrent(cell, **rates) if kind == "Recurrent" else elman.LSTM(I, 8, **rates)
    layer.eval()
    inputs = [torch.randn(40, B, I) for _ in range(2)]
    expected = [layer(x) for x in inputs]
    layer.train()
    barrier = Barrier(2)

    def run(x):
        barrier.wait()
        return [layer(x) for _ in range(20)]

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(run, inputs))
    for results, right in zip(found, expected, strict=True):
        for result in results:
            if rates:
                assert result[0].shape == right[0].shape
                assert not torch.equal(result[0], right[0])
            else:
                assert_equal(result, right)
    assert_equal([layer.eval()(x) for x in inputs], expected)


@pytest.mark.parametrize("name", EVERY)
def test_under_autocast_to_bfloat16_the_numbers_stay_near_float32(name):
    layer = built(name).float()
    x = torch.randn(T, B, I, dtype=torch.float32)
    expected, _ = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, _ = layer(x, lengths=[T, T])
    assert outputs.dtype in (torch.bfloat16, torch.float32)
    tolerance = 2 * TOLERANCE[torch.bfloat16].element
    torch.testing.assert_close(outputs.float(), expected, atol=tolerance, rtol=tolerance)
    for gradient in torch.autograd.grad(outputs.float().sum(), [*layer.parameters()]):
        assert gradient.dtype is torch.float32
        assert gradient.isfinite().all()
