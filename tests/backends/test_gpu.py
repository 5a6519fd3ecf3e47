"""Layers on a GPU, where there is one, beside the same layers on the CPU: float64, every output and
every gradient."""

import copy

import pytest
import torch

from tests.backends.layers import answers
from tests.layers.zoo import EVERY, built

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
T, B, I = 9, 5, 3
LENGTHS = torch.tensor([9, 4, 0, 7, 1])
RESET = torch.arange(T * B).view(T, B) % 4 == 3


def same(layer, **options) -> None:
    x = torch.randn(T, B, I, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer = layer.double()
    there = copy.deepcopy(layer).cuda()
    expected = answers(layer, x.requires_grad_(), None, [x, *layer.parameters()], **options)
    x = x.detach().cuda().requires_grad_()
    found = answers(there, x, None, [x, *there.parameters()], **options)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f.cpu(), e, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_as_on_the_cpu(name):
    same(built(name))
    same(built(name), lengths=LENGTHS)


@pytest.mark.parametrize("name", EVERY)
def test_what_torch_has_not(name):
    same(built(name), reset=RESET)
    same(built(name), truncate=3, lengths=LENGTHS)
    same(built(name), return_states=True, lengths=LENGTHS)


def test_who_runs_it():
    assert built("Stack").cuda().plan().backend == "torch"
    assert built("Recurrent SLSTM").cuda().plan().backend == "eager"
    assert built("GRU").cuda().plan().backend == "torch"
