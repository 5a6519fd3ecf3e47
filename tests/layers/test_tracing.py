"""Layers under everything that writes down what runs: they stand there as one operator."""

import io

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import elman
from elman import cells
from elman.errors import BackendError
from tests.layers.zoo import I
from tests.support import assert_equal, randomise

T, B = 5, 2

LAYERS = {
    "Recurrent": lambda: elman.Recurrent(cells.LayerNormLSTM(I, 4), reverse=True),
    "LSTM": lambda: elman.LSTM(I, 4, 2, bidirectional=True),
    "Stack": lambda: elman.Stack([cells.GRU(I, 4), cells.MGU(4, 4)], residual=False),
}
#: What steps are made of.
STEP = ("addmm", "mm", "linear", "tanh", "sigmoid", "native_layer_norm", "layer_norm")


class Model(nn.Module):
    """A module that holds a layer: what one traces."""

    def __init__(self, name):
        super().__init__()
        self.layer = randomise(LAYERS[name]())

    def forward(self, x):
        return self.layer(x)[0]


@pytest.fixture(params=LAYERS)
def model(request):
    return Model(request.param)


def operations(graph):
    return [str(node.target) for node in graph.nodes if node.op == "call_function"]


def scans(graph):
    """How many loops a graph has; no step of one may stand in it."""
    names = operations(graph)
    assert not {f"aten.{name}.default" for name in STEP} & {*names}
    return names.count("elman.scan.default")


def grads(results, model):
    return torch.autograd.grad(results.square().sum(), [*model.parameters()])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_jit_trace_holds_the_loop_whatever_the_sizes(model):
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, torch.randn(T, B, I)), file)
    file.seek(0)
    twin = torch.jit.load(file)
    for steps, batch in ((T, B), (9, 4)):
        x = torch.randn(steps, batch, I)
        assert_equal(twin(x), model(x))
        assert_equal(grads(twin(x), twin), grads(model(x), model))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jit_script_says_what_to_use(model):
    with pytest.raises(BackendError, match="torch.jit.script cannot compile .*torch.jit.trace"):
        torch.jit.script(model)


def test_make_fx_writes_down_the_loop_and_its_gradients(model):
    weights, x = dict(model.named_parameters()), torch.randn(T, B, I)

    def slopes(weights, x):
        loss = torch.func.functional_call(model, weights, (x,)).square().sum()
        return torch.autograd.grad(loss, [*weights.values()])

    graph = make_fx(slopes, tracing_mode="symbolic")(weights, x)
    loops = scans(graph.graph)
    assert loops and operations(graph.graph).count("elman.scan_backward.default") == loops
    for steps, batch in ((T, B), (9, 4)):
        x = torch.randn(steps, batch, I)
        assert_equal(graph(weights, x), slopes(weights, x))


def test_aot_autograd_equals_eager_mode(model):
    from functorch.compile import aot_module, nop

    x, twin = torch.randn(T, B, I), aot_module(model, nop)
    assert_equal(twin(x), model(x))
    assert_equal(grads(twin(x), model), grads(model(x), model))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager forward", "compiled forward"])
def test_compiled_autograd_equals_eager_mode(compiled):
    model, x = Model("Recurrent"), torch.randn(T, B, I)
    run = torch.compile(model, backend="eager") if compiled else model
    expected = grads(model(x), model)
    loss = run(x).square().sum()
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        loss.backward()
    assert_equal([p.grad for p in model.parameters()], expected)


@pytest.mark.parametrize("strict", [False, True])
def test_an_export_before_any_call_records_the_loop_alone(model, strict):
    x = torch.randn(T, B, I)
    exported = torch.export.export(model.train(), (x,), strict=strict)
    assert scans(exported.graph)
    assert_equal(exported.module()(x), model(x))


def test_a_first_run_on_fake_tensors_decides_nothing():
    layer = elman.GRU(I, 4)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        outputs, _ = layer(fake.from_tensor(torch.randn(T, B, I)), lengths=torch.tensor([5, 2]))
    assert outputs.shape == (T, B, 4)
    assert "on llvm" in str(layer.plan())
    expected = elman.GRU(I, 4, backend="loop")
    expected.load_state_dict(layer.state_dict())
    x = torch.randn(T, B, I)
    torch.testing.assert_close(layer(x)[0], expected(x)[0])


def test_fx_keeps_a_layer_as_one_node(model):
    x = torch.randn(T, B, I)
    traced = torch.fx.symbolic_trace(model)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["layer"]
    assert_equal(traced(x), model(x))
    with pytest.raises(BackendError, match="trace a module that holds the layer"):
        torch.fx.symbolic_trace(model.layer)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_onnx_says_what_to_use(model, tmp_path):
    with pytest.raises(BackendError, match="ONNX has no operation for .*backend='loop'"):
        torch.onnx.export(model, (torch.randn(T, B, I),), tmp_path / "m.onnx", dynamo=False)


def test_second_gradients_through_a_traced_graph_say_that_there_are_none():
    model, x = Model("Recurrent"), torch.randn(T, B, I, requires_grad=True)

    def twice(x):
        [slope] = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), x)

    with pytest.raises(BackendError, match="first gradients of a compiled loop alone"):
        make_fx(twice)(x)
