import pytest
import torch
from torch import nn

from elman.layers import Dropout
from tests.support import assert_close, assert_equal

COUNT = 400_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.9])
def test_a_share_is_left_out_and_the_mean_stays(p, dtype):
    torch.manual_seed(0)
    x = torch.ones(COUNT // 4, 4, dtype=dtype)
    y = Dropout(p)(x)
    assert y.dtype == dtype and y.shape == x.shape
    dropped = (y == 0).double().mean()
    # Five deviations of the share.
    assert abs(dropped - p) < 5 * (p * (1 - p) / COUNT) ** 0.5
    (left,) = y[y != 0].unique()
    assert left.item() == pytest.approx(1 / (1 - p), rel=1e-2 if dtype == torch.bfloat16 else 1e-3)
    assert y.double().mean() == pytest.approx(1, abs=0.05)


def test_each_place_is_drawn_by_itself():
    torch.manual_seed(0)
    y = Dropout(0.5)(torch.ones(COUNT // 8, 8)) != 0
    together = (y[:, :, None] & y[:, None]).double().mean(dim=0)
    assert (together - torch.full((8, 8), 0.25).fill_diagonal_(0.5)).abs().max() < 0.02


def test_the_gradient_takes_the_same_mask():
    torch.manual_seed(0)
    x = torch.randn(7, 3, requires_grad=True)
    y = Dropout(0.4)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert_close(y, x * gradient)


def test_a_seed_draws_the_same_and_evaluation_nothing():
    layer, x = Dropout(0.4), torch.randn(7, 3)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert_equal(layer(x), first)
    assert layer.eval()(x) is x
    assert isinstance(layer, nn.Dropout)


@pytest.mark.parametrize("p", [0.0, 1e-13, 1 - 1e-9, 1.0])
def test_all_or_nothing(p):
    x = torch.randn(6, 2)
    assert_close(Dropout(p)(x), torch.zeros_like(x) if p > 0.5 else x)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0, 3)])
def test_any_shape(shape):
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_it_compiles():
    layer = Dropout(0.5)
    y = torch.compile(layer, fullgraph=True, backend="aot_eager")(torch.ones(1000))
    assert 300 < (y == 0).sum() < 700
