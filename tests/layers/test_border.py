"""What stands at the border between torch and the kernels: tensors that no kernel may read."""

import ast
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.nn.utils import parametrizations, parametrize
from torch.utils.flop_counter import FlopCounterMode

import elman
from elman import cells
from elman.backends.operands import address
from elman.errors import BackendError, ShapeError
from elman.runtime import dispatch
from elman.testing import TOLERANCE
from tests.support import assert_close, assert_equal, leaves

T, B, I, H = 5, 2, 8, 8
LAYERS = {
    "Recurrent": lambda **options: elman.Recurrent(cells.LSTM(I, H), **options),
    "LSTM": lambda **options: elman.LSTM(I, H, **options),
}
ALL = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@pytest.fixture
def x():
    return torch.randn(T, B, I)


def parameter(layer, name):
    """(the module that holds it, its name there)"""
    return (layer.cell, name) if isinstance(layer, elman.Recurrent) else (layer, f"{name}_l0")


def put(layer, name, value):
    module, name = parameter(layer, name)
    setattr(module, name, nn.Parameter(value))


def of(layer, name):
    return getattr(*parameter(layer, name)).detach()


# ---------------------------------------------------------------- parameters


@ALL
@pytest.mark.parametrize("name", ["weight_ih", "weight_hh", "bias_ih", "bias_hh"])
def test_a_parameter_that_is_left_on_meta_is_named(make, name, x):
    layer = make()
    put(layer, name, of(layer, name).to("meta"))
    if name == "weight_ih":  # the first tells where the layer is
        message = "on meta|parameter tensor at meta"
    else:
        message = rf"LSTM: '{name}(_l0)?' is on meta, x on cpu; it has no values yet: load them"
    with pytest.raises(ShapeError, match=message):
        layer(x)


@ALL
@pytest.mark.parametrize("name", ["weight_hh", "bias_ih", "bias_hh"])
def test_one_parameter_of_another_dtype_is_an_error(make, name, x):
    layer = make()
    put(layer, name, of(layer, name).float())
    with pytest.raises(RuntimeError, match="dtype|float"):
        layer(x)


def test_a_drop_in_names_the_parameter_of_another_dtype(x):
    layer = elman.LSTM(I, H)
    layer.load_state_dict(
        layer.state_dict() | {"bias_hh_l0": layer.bias_hh_l0.detach().float()}, assign=True
    )
    message = r"LSTM: 'bias_hh_l0' is torch.float32, x is torch.float64; use layer.to\(torch.float6"
    with pytest.raises(ShapeError, match=message):
        layer(x)


@ALL
@pytest.mark.parametrize(
    "name,shape", [("bias_hh", (H,)), ("weight_hh", (4 * H, 1)), ("weight_ih", (H, I))]
)
def test_a_parameter_of_another_shape_is_an_error(make, name, shape, x):
    layer = make()
    put(layer, name, torch.zeros(shape))
    with pytest.raises(RuntimeError, match="must be|must match|cannot be multiplied|size"):
        layer(x)


def test_a_drop_in_names_the_parameter_of_another_shape(x):
    layer = elman.LSTM(I, H)
    layer.weight_hh_l0 = nn.Parameter(torch.zeros(4 * H, 1))
    message = r"LSTM: 'weight_hh_l0' must be \[32, 8\] for input_size=8.*got \[32, 1\]"
    with pytest.raises(ShapeError, match=message):
        layer(x)
    layer.weight_hh_l0 = None
    with pytest.raises(ShapeError, match="'weight_hh_l0' must be.*got NoneType"):
        layer(x)


@ALL
@pytest.mark.parametrize("name", ["weight_hh", "bias_hh"])
def test_a_parameter_whose_memory_was_freed_is_named(make, name, x):
    layer = make()
    put(layer, name, of(layer, name).clone())
    getattr(*parameter(layer, name)).untyped_storage().resize_(0)
    with pytest.raises(ShapeError, match=f"the memory of '{name}', .* has been freed"):
        layer(x)


def test_an_initial_state_of_another_kind_is_named(x):
    class Odd(cells.GRU):
        size, dtype = H, torch.float64

        def initial_state(self, batch_shape, like):
            return (like.new_zeros(*batch_shape, self.size, dtype=self.dtype),)

    layer = elman.Recurrent(Odd(I, H))
    layer.cell.size = 4
    with pytest.raises(ShapeError, match=r"Odd.initial_state: state \(h\) must be \[\[2, 8\]\]"):
        layer(x)
    with pytest.raises(ShapeError, match="a kernel wants 'reset h' to be 16 numbers"):
        layer(x, torch.zeros(B, H), reset=torch.ones(T, B, dtype=torch.bool))
    layer.cell.size, layer.cell.dtype = H, torch.float32
    with pytest.raises(ShapeError, match="Odd.initial_state: state 'h' is torch.float32"):
        layer(x)


class LowRank(nn.Module):
    def __init__(self):
        super().__init__()
        self.A, self.B = nn.Parameter(torch.randn(4 * H, 2) / 2), nn.Parameter(torch.randn(2, H))

    def forward(self, weight):
        return self.A @ self.B


@ALL
@pytest.mark.parametrize("how", ["orthogonal", "low rank"])
def test_a_weight_that_autocast_computes_is_brought_to_the_dtype_of_the_others(make, how, x):
    layer, x = make().float(), x.float()
    module, name = parameter(layer, "weight_hh")
    if how == "orthogonal":
        parametrizations.orthogonal(module, name)
    else:
        parametrize.register_parametrization(module, name, LowRank().float())
    expected, _ = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = layer(x)
    tolerance = TOLERANCE[torch.bfloat16].element
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    found.sum().backward()
    grads = [p.grad for name, p in layer.named_parameters() if not name.endswith("original")]
    assert all(grad is None or grad.isfinite().all() for grad in grads)
    assert grads[-1] is not None


# ---------------------------------------------------------------- what torch has put off


@ALL
def test_negations_that_torch_has_put_off_are_done(make, x):
    layer, state = make(), torch.randn(2, 1, B, H)
    lazy = torch._neg_view
    state = state if isinstance(layer, elman.LSTM) else state[:, 0]
    expected = layer(-x, tuple(-state))
    assert_equal(layer(lazy(x), tuple(lazy(state))), expected)
    for name in ("weight_hh", "bias_hh"):
        put(layer, name, lazy(-of(layer, name)))
    assert_equal(layer(-x, tuple(-state)), expected)


@ALL
def test_cotangents_that_are_negated_lazily_are_negated(make, x):
    layer, x, d = make(), x.requires_grad_(), torch.randn(T, B, H)
    expected, found = (
        torch.autograd.grad(layer(x)[0], (x, *layer.parameters()), d)
        for d in (-d, torch._neg_view(d))
    )
    assert_equal(found, expected)


# ---------------------------------------------------------------- meta and fake tensors


@ALL
def test_on_meta_a_layer_has_the_shapes(make):
    layer = make().to("meta")
    lengths = torch.tensor([3, 5], device="meta")
    outputs, state = layer(torch.empty(T, B, I, device="meta"), lengths=lengths)
    assert outputs.is_meta and outputs.shape == (T, B, H)
    assert all(part.is_meta and part.shape[-2:] == (B, H) for part in state)


@ALL
def test_fake_tensors_give_fake_tensors_of_the_right_shapes(make):
    with FakeTensorMode() as mode:
        outputs, state = make()(torch.randn(T, B, I), lengths=[3, 5])
    assert outputs.fake_mode is mode and outputs.shape == (T, B, H)
    assert all(part.shape[-2:] == (B, H) for part in state)


@ALL
@pytest.mark.parametrize("allow", [True, False], ids=["real inputs", "fake inputs alone"])
def test_a_run_in_a_fake_mode_decides_nothing_for_later_ones(make, allow):
    x = torch.randn(T, 3, I)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        if allow:
            assert make()(x)[0].fake_mode is mode
        else:
            make()(torch.randn(T, 3, I))
    layer, loop = make(), make(backend="loop")
    loop.load_state_dict(layer.state_dict())
    assert layer.plan().backend == "llvm"
    assert_close(layer(x), loop(x))


@ALL
def test_the_default_device_changes_nothing(make):
    x, reset, lengths = torch.randn(T, 4, I), [[False] * 4] * T, [5, 1, 0, 3]
    given = ({}, {"truncate": 2}, {"reset": reset}, {"lengths": lengths})
    given += ({"lengths": lengths, "reset": reset, "truncate": 2},)
    layer, loop = make(), make(backend="loop")
    loop.load_state_dict(layer.state_dict())
    with torch.device("meta"):
        found = [layer(x, **options) for options in given]
        sum(f[0].sum() for f in found).backward()
        with pytest.raises(ShapeError, match="meta"):
            layer(torch.randn(T, 4, I))
    expected = [loop(x, **options) for options in given]
    sum(e[0].sum() for e in expected).backward()
    assert_close(leaves(tuple(found)), leaves(tuple(expected)))
    assert_close(leaves((layer(x),)), leaves(tuple(expected[:1])))
    pairs = zip(layer.parameters(), loop.parameters(), strict=True)
    assert_close(*map(list, zip(*[(a.grad, b.grad) for a, b in pairs], strict=True)))


def test_a_table_that_inference_mode_has_made_serves_training(x):
    layer = elman.GRU(I, H)
    x = torch.randn(T + 1, B, I)
    with torch.inference_mode():
        expected = layer(x)[0]
    outputs, _ = layer(x)
    assert_equal(outputs, expected)
    outputs.sum().backward()


@pytest.mark.parametrize("device", ["meta"])
def test_a_stream_refuses_what_is_elsewhere(device):
    stream = elman.LSTM(4, 4).stream()
    with pytest.raises(ShapeError, match="x_t must be.*on cpu, got.*on meta"):
        stream(torch.zeros(4, device=device))


# ---------------------------------------------------------------- backends asked for


def vmapped(layer, x):
    return torch.vmap(lambda x: layer(x)[0])(x[None])[0]


def forward_mode(layer, x):
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        return forward_ad.unpack_dual(layer(dual)[0]).primal


def counted(layer, x):
    with FlopCounterMode(display=False):
        return layer(x)[0]


def functional(layer, x):
    return torch.func.functional_call(layer, dict(layer.named_parameters()), (x,))[0]


WAYS = {
    "a transform of torch.func is at work on x": vmapped,
    "forward-mode differentiation has to see every operation": forward_mode,
    "FlopCounterMode has to see every operation": counted,
}
EACH = pytest.mark.parametrize("reason", WAYS)


@ALL
@EACH
@pytest.mark.parametrize("backend", ["llvm", "eager"])
def test_a_backend_that_was_asked_for_is_kept(make, reason, backend, x):
    layer = make(backend=backend)
    with pytest.raises(BackendError, match=f"backend='{backend}' cannot run LSTM: {reason}"):
        WAYS[reason](layer, x)
    layer(x)


@ALL
@EACH
def test_auto_tells_once_which_slower_path_runs_and_why(make, reason, x):
    layer = make()
    expected, _ = layer(x)
    with pytest.warns(RuntimeWarning, match=f"LSTM runs as the literal loop.*slow: {reason}"):
        found = WAYS[reason](layer, x)
    assert_close(found, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WAYS[reason](layer, x)


def test_a_dtype_without_kernels_is_told_of_once(x):
    layer, x = elman.GRU(I, H).bfloat16(), x.bfloat16()
    message = "GRU runs as operations of torch, which is slow: there are no kernels for torch.bf"
    with pytest.warns(RuntimeWarning, match=message):
        layer(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(x)
        elman.GRU(I, H, backend="eager").bfloat16()(x)
    with pytest.raises(BackendError, match="no kernels for torch.bfloat16"):
        elman.GRU(I, H, backend="llvm").bfloat16()(x)


def test_autocast_where_there_are_no_kernels_is_told_of_or_refused(x, monkeypatch):
    """As on a GPU."""
    monkeypatch.setattr(dispatch, "autocasts", lambda tensor: True)
    reason = "autocast on cpu chooses the type of each operation"
    for backend in ("llvm", "eager"):
        with pytest.raises(BackendError, match=f"backend='{backend}' cannot run GRU: {reason}"):
            elman.GRU(I, H, backend=backend)(x)
    with pytest.warns(RuntimeWarning, match=f"GRU runs as the literal loop.*{reason}"):
        elman.GRU(I, H)(x)


def test_each_class_of_cells_is_told_of(x):
    for layer in (elman.LSTM(I, H), elman.GRU(I, H)):
        with pytest.warns(RuntimeWarning, match=f"{type(layer).__name__} runs as the literal"):
            vmapped(layer, x)


def test_a_cell_without_a_plan_is_refused_by_every_backend_that_was_asked_for(x):
    class Sorted(elman.Cell):
        def __init__(self):
            super().__init__(I, h=I)

        def step(self, x, h):
            return torch.sort(x + h)[0]

    for backend in ("llvm", "eager"):
        with pytest.raises(BackendError, match=f"backend='{backend}' cannot run Sorted"):
            elman.Recurrent(Sorted(), backend=backend)(x)


@ALL
def test_a_dual_level_without_tangents_is_no_reason(make, x):
    layer = make(backend="llvm")
    with forward_ad.dual_level():
        found = layer(x)
    assert_equal(found, layer(x))


@ALL
def test_a_functional_call_runs_the_kernels(make, x):
    layer = make(backend="llvm")
    assert_equal(functional(layer, x), layer(x)[0])


@ALL
def test_weights_that_intercept_functions_of_torch_run_the_loop(make, x):
    class Counting(torch.Tensor):
        calls = 0

        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            cls.calls += 1
            return super().__torch_function__(function, types, args, kwargs or {})

    layer = make()
    expected, _ = layer(x)
    outputs, _ = layer(x.as_subclass(Counting))
    assert_close(outputs.as_subclass(torch.Tensor), expected)
    assert Counting.calls > T


# ---------------------------------------------------------------- the last line


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(6, dtype=torch.float32),
        torch.zeros(5, dtype=torch.float64),
        torch.zeros(12, dtype=torch.float64)[::2],
        torch.zeros(6, dtype=torch.float64, device="meta"),
        torch._neg_view(torch.zeros(6, dtype=torch.float64)),
        torch.zeros(6, dtype=torch.float64).to_sparse(),
    ],
    ids=["dtype", "count", "strides", "meta", "negated", "sparse"],
)
def test_a_pointer_is_given_for_what_the_kernel_was_made_for_alone(tensor):
    with pytest.raises(
        (ShapeError, RuntimeError), match="a kernel wants 'h' to be 6 numbers|sparse"
    ):
        address("h", tensor, torch.float64, 6)


def test_the_pointer_of_a_tensor_is_where_it_begins():
    tensor = torch.zeros(2, 3, dtype=torch.float64)
    assert address("h", tensor, torch.float64, 6) == tensor.data_ptr()
    assert address("h", tensor[:0], torch.float64, 0) == tensor[:0].data_ptr()


#: Functions of torch that make a tensor on the default device.
FACTORIES = {
    *("zeros", "ones", "empty", "full", "arange", "tensor", "as_tensor", "asarray", "eye"),
    *("linspace", "rand", "randn", "randint", "randperm", "scalar_tensor", "empty_strided"),
}
ROOMS = ("backends", "layers", "cells", "compiler", "*.py")


def test_everything_that_is_made_says_on_which_device():
    """Tables that are kept must not lie on the device that happened to be the default one."""
    root, found = Path(elman.__file__).parent, []
    for path in (path for room in ROOMS for path in root.glob(room)):
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            for node in ast.walk(ast.parse(file.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and ast.unparse(node.func.value) == "torch"
                    and node.func.attr in FACTORIES
                    and "device" not in {keyword.arg for keyword in node.keywords}
                ):
                    found.append(f"{file.relative_to(root)}:{node.lineno}")
    own = [place for place in found if not place.startswith("layers/attention.py")]
    assert own == []


def test_lengths_that_are_negated_when_they_are_read(x):
    layer, lengths = elman.GRU(x.shape[-1], 4).to(x.dtype), torch.arange(x.shape[1]) % (len(x) + 1)
    found = layer(x, lengths=torch._neg_view(-lengths))
    assert_equal(found, layer(x, lengths=lengths))


# ------------------------------------------------------------------ what is told, and where


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layer", [elman.LSTM(4, 4), elman.Recurrent(elman.cells.GRU(4, 4))])
def test_x_that_is_not_dense_is_refused_with_what_to_do(layer):
    nested = torch.nested.nested_tensor([torch.randn(3, 4), torch.randn(2, 4)])
    with pytest.raises(ShapeError, match=r"nested one; pad it .* lengths="):
        layer(nested)
    with pytest.raises(ShapeError, match=r"sparse_coo; use x.to_dense"):
        layer(torch.randn(5, 2, 4).to_sparse())


def test_a_slower_path_is_told_of_at_the_callers_line():
    class Reader(elman.Cell):
        def step(self, x, h):
            return torch.tanh(x + h) * (2 if time.time() > 0 else 1)

    layer = nn.Sequential(elman.Recurrent(Reader(3, h=3)))
    with pytest.warns(RuntimeWarning, match="literal loop") as told:
        layer(torch.randn(3, 2, 3))
    assert [Path(one.filename).name for one in told] == [Path(__file__).name]


def test_a_layer_shows_what_was_asked_for():
    lstm = elman.LSTM(4, 6, batch_first=True, zoneout=0.5, backend="loop")
    assert repr(lstm) == "LSTM(4, 6, batch_first=True, zoneout=0.5, backend='loop')"
    assert "memory='recompute'" in repr(elman.Recurrent(elman.cells.GRU(3, 3), memory="recompute"))


def test_a_stream_is_told_the_batch_of_its_state():
    layer, x = elman.LSTM(4, 6), torch.randn(5, 3, 4)
    state = layer(x)[1]
    with pytest.raises(ShapeError, match="Expected hidden|For batched|hidden") as caught:
        layer.stream(state)
    assert "batch_size=None" in caught.value.__notes__[0]
    assert layer.stream(state, batch_size=3)(x[0]).shape == (3, 6)


LENGTHS = {
    "unsigned": lambda: torch.tensor([5, 3], dtype=torch.uint16),
    "int8": lambda: torch.tensor([5, 3], dtype=torch.int8),
    "texts": lambda: ["a", "b"],
    "meta": lambda: torch.zeros(2, dtype=torch.int64, device="meta"),
    "sparse": lambda: torch.tensor([5, 3]).to_sparse(),
}


@pytest.mark.parametrize("kind", LENGTHS)
def test_lengths_of_any_kind_are_read_or_refused(kind, x):
    layer = LAYERS["LSTM"]()
    if kind in ("unsigned", "int8"):
        assert_equal(layer(x, lengths=LENGTHS[kind]()), layer(x, lengths=[5, 3]))
        return
    with pytest.raises(ShapeError, match="lengths"):
        layer(x, lengths=LENGTHS[kind]())


@pytest.mark.parametrize("truncate", [2**70, np.int64(2)])
def test_any_whole_number_truncates(truncate, x):
    layer = LAYERS["Recurrent"]()
    assert_equal(layer(x, truncate=truncate), layer(x, truncate=min(int(truncate), T)))


@ALL
def test_a_state_that_lies_transposed(make):
    """Gradients of it, where only the outputs have any."""
    layer, loop = make(), make(backend="loop")
    loop.load_state_dict(layer.state_dict())
    x, shape = torch.randn(T, B, I), (H, B) if isinstance(layer, elman.Recurrent) else (1, H, B)
    state = [torch.randn(shape, requires_grad=True) for _ in range(2)]
    both = []
    for each in (layer, loop):
        outputs, _ = each(x, tuple(part.mT for part in state))
        both.append(torch.autograd.grad(outputs.square().sum(), state))
    assert_close(*both)


def test_a_module_of_torchscript_in_a_cell_runs_the_loop():
    class Scripted(elman.Cell):
        def __init__(self) -> None:
            super().__init__(4, h=4)
            self.U = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Tanh()))

        def step(self, x, h):
            return self.U(x + h)

    layer, x = elman.Recurrent(Scripted()), torch.randn(3, 2, 4)
    with pytest.warns(RuntimeWarning, match="self.U is a module of TorchScript"):
        found = layer(x)[0]
    h = torch.zeros(2, 4)
    for x_t, y in zip(x, found, strict=True):
        h = layer.cell.U(x_t + h)
        assert torch.equal(h, y)
