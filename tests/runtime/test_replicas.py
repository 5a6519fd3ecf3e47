"""Copies of a layer, and other tensors in the place of its own, run the same kernels."""

import copy

import pytest
import torch
from torch import nn

import elman
from tests.cells.test_reads import compiled  # noqa: F401
from tests.support import randomise


def _deepcopy(layer, x):
    return copy.deepcopy(layer)(x)[0]


def _functional_call(layer, x):
    other = {name: value.detach().clone() for name, value in layer.named_parameters()}
    return torch.func.functional_call(layer, other, (x,))[0]


def _replica(layer, x):
    """As torch.nn.parallel.replicate makes one for each device."""
    return _replicated(layer)(x)[0]


def _replicated(module):
    twin = module._replicate_for_data_parallel()
    twin._former_parameters = {}
    for name, parameter in module._parameters.items():
        if parameter is not None:
            setattr(twin, name, parameter.clone())  # no leaf, and no nn.Parameter
            twin._former_parameters[name] = getattr(twin, name)
    for name, child in module._modules.items():
        twin._modules[name] = _replicated(child)
    return twin


def _pickled(layer, x, tmp_path=None):
    import pickle

    return pickle.loads(pickle.dumps(layer))(x)[0]


@pytest.mark.parametrize("twin", [_deepcopy, _functional_call, _replica])
def test_copies_run_the_same_kernels(twin, compiled) -> None:  # noqa: F811
    layer = elman.Recurrent(randomise(elman.cells.LayerNormLSTM(4, 4)), backend="llvm")
    x = torch.randn(3, 2, 4, requires_grad=True)
    expected = layer(x)[0]
    made = len(compiled)
    found = twin(layer, x)
    assert torch.equal(found, expected) and len(compiled) == made
    found.sum().backward()


def test_a_pickled_layer_runs_kernels() -> None:
    layer = elman.Recurrent(randomise(elman.cells.LSTM(4, 4)), backend="llvm")
    x = torch.randn(3, 2, 4)
    assert torch.equal(layer(x)[0], _pickled(layer, x))


def test_gradients_reach_what_a_replica_was_made_of() -> None:
    layer = elman.Recurrent(randomise(elman.cells.LSTM(4, 4)), backend="llvm")
    x = torch.randn(3, 2, 4)
    grads = [
        torch.autograd.grad(run(x)[0].square().sum(), list(layer.parameters()))
        for run in (layer, _replicated(layer))
    ]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.filterwarnings("ignore:FSDP is switching")
def test_fully_sharded_layers(tmp_path) -> None:
    """Parameters that are views of a flat one, set as plain attributes while the layer runs."""
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        layer = randomise(elman.Recurrent(elman.cells.LSTM(4, 4), backend="llvm"))
        x = torch.randn(3, 2, 4)
        expected = layer(x)[0]
        model = nn.Sequential(copy.deepcopy(layer))
        sharded = FSDP(model, use_orig_params=True, device_id=torch.device("cpu"))
        found = sharded(x)[0]
        torch.testing.assert_close(found, expected)
        found.sum().backward()
        assert all(p.grad is not None for p in sharded.parameters())
    finally:
        torch.distributed.destroy_process_group()
