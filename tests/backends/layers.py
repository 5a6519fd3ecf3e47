"""Layers on each backend beside the same layers run by the literal loop."""

import copy

import pytest
import torch
from torch import Tensor, nn

import elman
from elman.cells import LSTM
from elman.runtime.dispatch import ENGINES
from elman.runtime.scan import Execution
from tests.support import leaves, randomise

BACKENDS = tuple(sorted(ENGINES))
#: A test of each of them.
FAST = pytest.mark.parametrize("backend", BACKENDS)


def layer_of(backend: str, cell: elman.Cell | None = None, **options) -> elman.Recurrent:
    return elman.Recurrent(cell or randomise(LSTM(3, 5)), backend=backend, **options)


def literal(layer: nn.Module) -> nn.Module:
    """The layer on the same parameters, run by the literal loop."""
    shared = {id(p): p for p in layer.parameters()}
    twin = copy.deepcopy(layer, shared)
    for module in twin.modules():
        if isinstance(module, elman.Recurrent | elman.RNN | elman.LSTM | elman.GRU):
            module.execution = Execution("loop")
    return twin


def answers(layer: nn.Module, x: Tensor, state=None, wrt=(), **options) -> list[Tensor]:
    """Outputs, state, and the gradients of a sum that no two outputs enter alike."""
    results = leaves(layer(x, state, **options))
    total = sum((r * torch.linspace(-1, 1, r.numel()).view(r.shape).to(r)).sum() for r in results)
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
