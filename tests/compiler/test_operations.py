"""Every operation that a step may use: value and gradient are torch's, at awkward points too."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from elman.compiler.ir.interpret import evaluate
from elman.compiler.trace.tracer import trace
from tests.compiler.support import AWKWARD, SPECIAL, Of, assert_step, double, leaves_of, rows

#: Functions of one number.
UNARY = {
    "neg": lambda x: -x,
    "exp": lambda x: (x / 10).exp(),
    "log": lambda x: (x * x + 0.1).log(),
    "log1p": lambda x: torch.log1p(x * x),
    "expm1": lambda x: torch.expm1(x / 10),
    "sqrt": lambda x: (x * x + 0.1).sqrt(),
    "rsqrt": lambda x: (x * x + 0.1).rsqrt(),
    "reciprocal": lambda x: (x * x + 0.1).reciprocal(),
    "abs": torch.abs,
    "sign": lambda x: torch.sign(x) * x,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "relu": F.relu,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": lambda x: torch.tan(x / 100),
    "exp2": lambda x: torch.exp2(x / 10),
    "log2": lambda x: torch.log2(x * x + 0.1),
    "log10": lambda x: torch.log10(x * x + 0.1),
    "square": torch.square,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "softplus steep": lambda x: F.softplus(x, beta=2.5, threshold=5),
    "logsigmoid": F.logsigmoid,
    "elu": F.elu,
    "elu scaled": lambda x: F.elu(x, 0.7),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.5),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "hardtanh": F.hardtanh,
    "relu6": F.relu6,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "threshold": lambda x: F.threshold(x, 0.5, -4.0),
    "clamp": lambda x: x.clamp(-1, 2),
    "clamp min": lambda x: x.clamp_min(0.5),
    "clamp max": lambda x: x.clamp(max=1),
    "clamp empty": lambda x: x.clamp(2, -1),
    "rsub": lambda x: 1 - x,
    "add alpha": lambda x: torch.add(x, 2, alpha=3) + torch.sub(x, x.abs(), alpha=0.3),
    "pow 0": lambda x: x**0,
    "pow 1": lambda x: x**1,
    "pow 2": lambda x: x**2,
    "pow 3": lambda x: x**3,
    "pow -1": lambda x: (x * x + 1) ** -1,
    "pow half": lambda x: (x * x + 1) ** 0.5,
    "pow -half": lambda x: (x * x + 1) ** -0.5,
    "pow 1.7": lambda x: x.abs() ** 1.7,
    "pow 4": lambda x: x**4,
    "base": lambda x: 1.1**x,
    "where": lambda x: torch.where(x > 0, x * 2, 0.5),
    "where numbers": lambda x: torch.where(x > 0, 1.0, -1.0) * x,
    "masked_fill": lambda x: x.masked_fill(x <= 0, -2.0),
    "truth as number": lambda x: (x > 0).float().to(x.dtype) * x + (x > 1) * x,
    "logic": lambda x: torch.where(~((x > 0) & (x < 2)) | (x == 3), x, -x),
    "xor": lambda x: torch.where((x > 0) ^ (x > 1), x, torch.logical_not(x) * x),
    "minimum of number": lambda x: torch.minimum(x, torch.tensor(1.0, dtype=x.dtype)),
    "constants": lambda x: x + torch.ones_like(x) * 2 + torch.full_like(x, 0.5) + x.new_zeros(1),
}

#: Functions of two vectors.
BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": lambda x, y: x / (y * y + 1),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "max": torch.max,
    "min": torch.min,
    "pow": lambda x, y: (x.abs() / 10) ** (y / 10),
    "pow at zero": lambda x, y: x.relu() ** y.abs(),
    "addcmul": lambda x, y: torch.addcmul(x, y, y, value=0.3),
    "addcdiv": lambda x, y: torch.addcdiv(x, y, x * x + 1, value=0.3),
    "lerp": lambda x, y: torch.lerp(x, y, 0.3),
    "lerp far": lambda x, y: torch.lerp(x, y, 0.7),
    "lerp vector": lambda x, y: torch.lerp(x, y, y.sigmoid()),
    "where": lambda x, y: torch.where(x > y, x, y * 2),
    "compare": lambda x, y: torch.where(x <= y, x, y) + torch.where(x >= y, x, 2 * y),
    "equal": lambda x, y: torch.where(x == y, x * 2, y) + torch.where(x != y, x, y),
    "clamp between": lambda x, y: torch.clamp(x, y - 1, y + 1),
    "logaddexp": torch.logaddexp,
}


def along(x):
    return x.sum(-1, keepdim=True)


#: Functions of whole vectors, [..., 6].
VECTOR = {
    "sum": lambda x, h: h + along(x),
    "sum dropped": lambda x, h: h + x.sum(-1).unsqueeze(-1),
    "mean": lambda x, h: h * x.mean(-1, keepdim=True),
    "mean dropped": lambda x, h: h * (x.mean(-1) * 2).unsqueeze(-1),
    "amax": lambda x, h: h * x.amax(-1, keepdim=True),
    "amin": lambda x, h: h * x.amin(dim=-1, keepdim=True),
    "var": lambda x, h: h * x.var(-1, keepdim=True),
    "var biased": lambda x, h: h * x.var(-1, unbiased=False, keepdim=True),
    "std": lambda x, h: h * x.std(-1, keepdim=True),
    "var_mean": lambda x, h: torch.cat([*torch.var_mean(x, -1, keepdim=True), h[..., 2:]], -1),
    "norm": lambda x, h: h * x.norm(dim=-1, keepdim=True),
    "norm 1": lambda x, h: h * x.norm(1, dim=-1, keepdim=True),
    "normalize": lambda x, h: F.normalize(x, dim=-1) * h,
    "softmax": lambda x, h: x.softmax(-1) * h,
    "softmax function": lambda x, h: F.softmax(x * h, dim=1),
    "log_softmax": lambda x, h: x.log_softmax(-1) + h,
    "logsumexp": lambda x, h: h + torch.logsumexp(x, -1, keepdim=True),
    "layer_norm": lambda x, h: F.layer_norm(x, (6,)) * h,
    "rms_norm": lambda x, h: F.rms_norm(x, (6,)) * h,
    "rms_norm eps": lambda x, h: F.rms_norm(x, (6,), eps=0.1) * h,
    "chunk": lambda x, h: torch.cat([c * (k + 1) for k, c in enumerate(x.chunk(4, -1))], -1) + h,
    "split": lambda x, h: torch.cat(x.split([1, 3, 2], -1)[::-1], -1) * h,
    "tensor_split": lambda x, h: torch.cat(x.tensor_split(4, -1)[::-1], -1) * h,
    "slices": lambda x, h: torch.cat([x[..., 4:], h[:, :2], x[..., -3:-1]], dim=1),
    "overlapping slices": lambda x, h: torch.cat([x[..., :4] * x[..., 2:], h[..., :2]], -1),
    "narrow": lambda x, h: torch.cat([x.narrow(-1, 1, 3), h.narrow(1, 0, 3)], -1),
    "select": lambda x, h: x[..., 2].unsqueeze(-1) * h + x[..., -1:],
    "unbind": lambda x, h: torch.stack(x.unbind(-1)[::-1], -1) * h,
    "expand": lambda x, h: x[..., :1].expand_as(h) * h + x[:, 1:2].expand(-1, 6),
    "glu": lambda x, h: torch.cat([F.glu(x, -1), F.glu(h)], -1),
    "detach": lambda x, h: x.detach() * h + x,
    "copies": lambda x, h: x.clone().contiguous().to(h.dtype).view(-1, 6).reshape(h.shape) * h,
    "flat": lambda x, h: x.flatten(1) + h,
    "same twice": lambda x, h: x * x + h * h * h,
    "constant vector": lambda x, h: torch.cat([torch.zeros_like(h[..., :2]), x[..., :4]], -1) + h,
}


def grid(values):
    """All pairs of values: x runs down, h runs across."""
    points = torch.tensor(values, dtype=torch.float64)
    x = points[:, None].expand(len(values), len(values)).clone()
    return x, x.T.clone()


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    function = UNARY[name]
    x, h = grid(AWKWARD)
    cell = Of(lambda self, x, h: function(x) + function(h * 0.5), size=len(AWKWARD)).double()
    # torch's own gradient of hardsigmoid has a sixth in float32.
    assert_step(cell, x, [h], tolerance=1e-7 if name == "hardsigmoid" else 1e-10)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    function = BINARY[name]
    x, h = grid(AWKWARD)
    cell = Of(lambda self, x, h: function(x, h), size=len(AWKWARD)).double()
    assert_step(cell, x, [h])


@pytest.mark.parametrize("name", VECTOR)
def test_vector(name):
    function = VECTOR[name]
    # A weight says that the cell is one of float64, on which rms_norm's epsilon depends.
    cell = Of(lambda self, x, h: function(x, h), 6, {"unused": double(1)})
    assert_step(cell, double(5, 6), [double(5, 6, seed=1)])
    tied = torch.tensor([[1.0, 1, 0, -1, 1, 0], [2, 2, 2, 2, 2, 2]], dtype=torch.float64)
    assert_step(cell, tied, [tied.flip(0)])


# Of lerp's two formulas torch takes one by the weight, number by number: they differ at infinity.
@pytest.mark.parametrize("name", sorted({*UNARY, *BINARY} - {"lerp vector"}))
def test_infinities_and_nan(name):
    """What is not a number stays so, and what is infinite is what torch makes of it."""
    function = UNARY[name] if name in UNARY else BINARY[name]
    unary = name in UNARY
    x, h = grid((*SPECIAL, -1.0, 0.0, 2.0))
    cell = Of(lambda self, x, h: function(x) + 0 * h if unary else function(x, h), 6).double()
    step = trace(cell)
    actual = rows(list(step.outputs), leaves_of(cell, step, x, [h]), len(x))[0]
    torch.testing.assert_close(actual, cell.step(x, h), equal_nan=True)


def weight(*shape):
    return double(*shape, seed=sum(shape) + len(shape))


#: Functions of (cell, x, h) with weights: [6, 6], vectors and scalars.
WEIGHTED = {
    "linear": lambda c, x, h: F.linear(h, c.W, c.b) + F.linear(x, c.V),
    "matmul": lambda c, x, h: h @ c.W + torch.matmul(x, c.V.T),
    "matmul transposed": lambda c, x, h: h @ c.W.t() + x @ c.V.transpose(0, 1) + x @ c.V.mT,
    "addmm": lambda c, x, h: torch.addmm(c.b, h, c.W, beta=0.5, alpha=2) + x,
    "mv": lambda c, x, h: (h @ c.b).unsqueeze(-1) * x + torch.mv(x, c.b).unsqueeze(-1),
    "same weight twice": lambda c, x, h: F.linear(h, c.W) * F.linear(x, c.W) + F.linear(h, c.W),
    "chained": lambda c, x, h: F.linear(F.linear(h, c.W).tanh(), c.W, c.b) + x,
    "of cat": lambda c, x, h: F.linear(torch.cat([x, h], -1), torch.cat([c.W, c.V], 1), c.b),
    "parts": lambda c, x, h: torch.cat(
        [F.linear(h, c.W[:3], c.b[:3]), F.linear(x, c.V.chunk(2)[1])], -1
    ),
    "diagonal": lambda c, x, h: h * torch.diagonal(c.W) + x * c.b,
    "scalar": lambda c, x, h: c.one * h + c.zero * x + c.row * x,
    "scalar function": lambda c, x, h: c.one.sigmoid() * h + torch.exp(c.zero) / (1 + x * x),
    "gain": lambda c, x, h: F.layer_norm(h, (6,), c.b, c.row[0]) + F.rms_norm(x, (6,), c.b),
    "prelu": lambda c, x, h: F.prelu(h, c.b) + F.prelu(x, c.one),
    "expanded weight": lambda c, x, h: (
        torch.cat([c.b.expand(x.shape[0], 6)[:, :3], h[:, 3:]], 1) * x
    ),
    "zeros with weight": lambda c, x, h: (torch.zeros_like(h) + c.b) * h + x,
    "fresh zeros": lambda c, x, h: (torch.zeros(6, dtype=h.dtype) + c.b) * h + x,
    "low rank": lambda c, x, h: F.linear(h, c.W[:, :2] @ c.V[:2]) + x,
    "stack": lambda c, x, h: h * torch.stack([c.b, c.row[0]]).mean(0) + x,
    "masked weight": lambda c, x, h: F.linear(h, c.W.tril()) + F.linear(x, c.W * (c.V > 0)),
    "maximum": lambda c, x, h: torch.maximum(h, c.b) + torch.minimum(x, c.zero),
    "where": lambda c, x, h: torch.where(h > c.b, h, c.row) + torch.where(c.b > 0, x, h),
    "weight norm": lambda c, x, h: F.linear(h, c.one * c.W / c.W.norm(dim=1, keepdim=True)) + x,
    "pow": lambda c, x, h: h.abs() ** c.b + c.b.abs() ** x,
    "detached weight": lambda c, x, h: F.linear(h, c.W.detach()) + F.linear(x, c.W),
    "weight of one": lambda c, x, h: F.linear(h[:, :1], c.W[:, :1]) + x,
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_with_weights(name):
    weights = {
        "W": weight(6, 6),
        "V": weight(6, 6) + 1,
        "b": weight(6),
        "one": weight(1),
        "zero": weight(),
        "row": weight(1, 6),
    }
    cell = Of(WEIGHTED[name], 6, weights).double()
    assert_step(cell, double(5, 6), [double(5, 6, seed=1)])


def test_no_grad_and_buffers():
    def step(cell, x, h):
        with torch.no_grad():
            scale = h.tanh() * cell.W.sum()
        return torch.where(cell.kept, h * cell.decay, x) * scale

    buffers = {"decay": double(6), "kept": torch.tensor([True, False] * 3)}
    cell = Of(step, 6, {"W": double(2, 2)}, buffers).double()
    assert_step(cell, double(5, 6), [double(5, 6, seed=1)])


def test_modules():
    class Model(Of):
        def __init__(self):
            super().__init__(Model.run, 6)
            self.net = nn.Sequential(nn.Linear(12, 9), nn.GELU(), nn.LayerNorm(9), nn.Linear(9, 6))
            self.gate = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))

        def run(self, x, h):
            z = self.gate(h).sigmoid()
            return z * h + (1 - z) * self.net(torch.cat([x, h], dim=-1))

    cell = Model().double().eval()
    step = trace(cell)
    x, h = double(5, 6), double(5, 6, seed=1)
    actual = evaluate(step.outputs, leaves_of(cell, step, x, [h]))[0]
    torch.testing.assert_close(actual, cell.step(x, h))
