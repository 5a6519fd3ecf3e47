"""Layers under torch.compile and torch.export: one graph, whatever B and T, and equal numbers."""

import copy
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

import elman
from elman import cells
from elman.backends.reference.eager import Eager
from elman.errors import ShapeError
from tests.layers.zoo import I, built, some_state
from tests.support import assert_equal, leaves, randomise

T, B = 5, 6  # a size that equals another one is taken for the same by torch.compile


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    counters.clear()


def compiled(layer, **options):
    return torch.compile(layer, backend="aot_eager", fullgraph=True, **options)


def ragged(steps, batch):
    lengths = torch.arange(batch) % (steps + 1)
    return {"lengths": lengths, "reset": torch.rand(steps, batch) < 0.3}


def gradients(results, wrt):
    """As in tests.support, but once: torch.compile does not keep its graphs for a second time."""
    total = sum((r * torch.linspace(-1, 1, r.numel()).view(r.shape)).sum() for r in leaves(results))
    return torch.autograd.grad(total, wrt, materialize_grads=True)


def assert_same(layer, twin, x, *args, **options):
    """Outputs and all gradients of the layer and of its compiled twin, from one seed."""
    wrt = [x.requires_grad_(), *layer.parameters(), *leaves(args)]
    wrt = [w for w in wrt if w.requires_grad]
    found = []
    for run in (layer, twin):
        torch.manual_seed(1)
        results = run(x, *args, **options)
        found.append((results, gradients(results, wrt)))
    assert_equal(*[results for results, _ in found])
    assert_equal(*[grads for _, grads in found])


KINDS = [
    "Recurrent SLSTM", "Stack residual", "RNN", "LSTM", "Stack reverse", "Bidirectional sum",
    "Bidirectional of Stack", "GRU bidirectional",
]  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_one_graph_serves_every_batch_and_length_with_the_numbers_of_eager_mode(name):
    layer = built(name)
    twin = compiled(layer, dynamic=True)
    for steps, batch in ((T, B), (11, 4), (7, 9)):
        x = torch.randn(steps, batch, I)
        state = some_state(layer, batch)
        assert_same(layer, twin, x, state, **ragged(steps, batch), return_states=True)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_marked_sizes_do_not_compile_again():
    layer = randomise(elman.GRU(I, 4))
    twin = compiled(layer)
    for steps, batch in ((T, B), (11, 4), (7, 9)):
        x = torch.randn(steps, batch, I)
        torch._dynamo.mark_dynamic(x, 0)
        torch._dynamo.mark_dynamic(x, 1)
        assert_same(layer, twin, x)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kind", [elman.LSTM, "Recurrent"])
def test_regularisers_and_truncation_equal_eager_mode(kind, training, dynamic):
    rates = {"input_dropout": 0.2, "state_dropout": 0.3, "zoneout": 0.1, "weight_drop": 0.4}
    if kind == "Recurrent":
        layer = elman.Recurrent(cells.LSTM(I, 4), **rates | {"zoneout": {"c": 0.5}})
    else:
        layer = kind(I, 4, num_layers=2, dropout=0.1, **rates)
    randomise(layer).train(training)
    twin = compiled(layer, dynamic=dynamic)
    assert_same(layer, twin, torch.randn(T, B, I), truncate=2, **ragged(T, B))


@pytest.mark.parametrize("options", [
    {"deterministic": "batch"}, {"memory": "save"}, {"memory": "recompute"}, {"memory": 2000},
    {"backend": "eager"}, {"backend": "loop"},
], ids=str)  # fmt: skip
def test_every_backend_and_memory_option_equals_eager_mode(options):
    layer = randomise(elman.Recurrent(cells.SLSTM(I, 4), reverse=True, **options))
    assert_same(layer, compiled(layer), torch.randn(T, B, I), **ragged(T, B))


class Learned(elman.Cell):
    """A cell that starts from a parameter, and that torch alone can run if ``odd``."""

    def __init__(self, odd=False):
        super().__init__(I, h=4)
        self.W, self.U = nn.Linear(I, 4), nn.Linear(4, 4)
        self.start = nn.Parameter(torch.randn(4))
        self.odd = odd

    def initial_state(self, batch_shape, like):
        return (self.start.expand(*batch_shape, 4),)

    def step(self, x, h):
        u = self.U(h)
        return torch.tanh(self.W(x) + (u.cumsum(-1) if self.odd else u))


@pytest.mark.filterwarnings("ignore:.*literal loop")
@pytest.mark.parametrize("odd", [False, True], ids=["planned", "literal"])
def test_a_learned_initial_state_gets_the_gradient_of_every_reset(odd):
    layer = elman.Recurrent(Learned(odd))
    assert_same(layer, compiled(layer), torch.randn(T, B, I), **ragged(T, B))


def test_weight_norm_and_frozen_parameters_equal_eager_mode():
    layer = randomise(elman.Recurrent(cells.LSTM(I, 4)))
    nn.utils.parametrizations.weight_norm(layer.cell, "weight_hh")
    layer.cell.bias_ih.requires_grad_(False)
    assert_same(layer, compiled(layer), torch.randn(T, B, I))


def test_two_layers_of_one_shape_are_not_taken_for_each_other():
    soft, hard = (elman.Recurrent(cells.Elman(I, 4, activation=a)) for a in ("tanh", "relu"))
    x = torch.randn(T, B, I)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def run(layer, x):
        return layer(x)

    for layer in (soft, hard, copy.deepcopy(soft), soft):
        assert_equal(run(layer, x), layer(x))


def test_parameters_changed_between_calls_are_read_anew():
    layer = elman.LSTM(I, 4)
    twin, x = compiled(layer), torch.randn(T, B, I)
    before = twin(x)[0]
    randomise(layer)
    assert not torch.equal(twin(x)[0], before)
    assert_equal(twin(x), layer(x))
    assert counters["stats"]["unique_graphs"] == 1


class Settings:
    scale = 1.0


class Scaled(elman.Cell):
    """A cell whose step reads attributes of every kind."""

    def __init__(self):
        super().__init__(I, h=4)
        self.W, self.U, self.act = nn.Linear(I, 4), nn.Linear(4, 4), nn.Tanh()
        self._rate, self.settings = 0.5, Settings()

    def step(self, x, h):
        return self.settings.scale * self._rate * self.act(self.W(x) + self.U(h))


CHANGES = {
    "a private attribute": lambda cell: setattr(cell, "_rate", 0.25),
    "an object of the user's": lambda cell: setattr(cell.settings, "scale", 2.0),
    "a module": lambda cell: setattr(cell, "act", nn.Sigmoid()),
}


@pytest.mark.filterwarnings("ignore:.*literal loop")
def test_a_cell_changed_after_compilation_is_compiled_again():
    layer, x = elman.Recurrent(Scaled()), torch.randn(T, B, I)
    twin = compiled(layer)
    before = twin(x)[0]
    assert_equal(twin(x)[0], before)
    assert counters["stats"]["unique_graphs"] == 1
    for change in CHANGES.values():
        change(layer.cell)
        found = twin(x)[0]
        assert (found - before).abs().max() > 1e-3
        torch.testing.assert_close(found, layer(x)[0])
        before = found
    assert counters["stats"]["unique_graphs"] == 1 + len(CHANGES)


@pytest.mark.filterwarnings("ignore:.*literal loop")
@pytest.mark.parametrize("backend", ["auto", "loop"])
def test_a_hook_on_a_compiled_cell_is_refused(backend):
    layer, x = elman.Recurrent(Scaled(), backend=backend), torch.randn(T, B, I)
    twin = compiled(layer)
    twin(x)
    layer.cell.U.register_forward_hook(lambda module, args, out: 2 * out)
    with pytest.raises(RuntimeError, match="hooks that torch.compile cannot see"):
        twin(x)


def test_one_unbatched_sequence_and_batch_first_equal_eager_mode():
    layer = randomise(elman.LSTM(I, 4, batch_first=True))
    for x in (torch.randn(T, I), torch.randn(B, T, I)):
        assert_same(layer, compiled(layer), x)


@pytest.mark.parametrize("steps,batch", [(0, B), (T, 0), (1, 1)])
def test_empty_and_single_batches_equal_eager_mode(steps, batch):
    layer = elman.Recurrent(cells.GRU(I, 4))
    x = torch.randn(steps, batch, I)
    assert_equal(compiled(layer)(x), layer(x))


def test_all_lengths_zero_equals_eager_mode():
    layer = elman.Recurrent(cells.GRU(I, 4))
    assert_same(layer, compiled(layer), torch.randn(T, B, I), lengths=torch.zeros(B).long())


def test_a_wrong_length_is_found_when_the_graph_runs():
    twin = compiled(elman.GRU(I, 4))
    twin(torch.randn(T, 2, I), lengths=torch.tensor([T, 0]))
    with pytest.raises(ShapeError, match=r"0 \.\.\. T = 5, got 6 at b=1"):
        twin(torch.randn(T, 2, I), lengths=torch.tensor([T, 6]))


@pytest.mark.parametrize("kind", [elman.RNN, elman.LSTM])
def test_autocast_equals_eager_mode(kind):
    layer = kind(I, 4).float()
    twin, x = compiled(layer), torch.randn(T, B, I, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = twin(x)[0], layer(x)[0]
    assert_equal(found, expected)
    grads = (torch.autograd.grad(o.float().sum(), layer.weight_hh_l0) for o in (found, expected))
    assert_equal(*grads)


def test_the_backward_pass_does_not_run_the_loop_again(monkeypatch):
    layer = elman.Recurrent(cells.LSTM(I, 4), backend="eager")
    loops, forward = [], Eager.forward
    monkeypatch.setattr(Eager, "forward", lambda *args: (loops.append(1), forward(*args)))
    outputs, _ = compiled(layer)(torch.randn(T, B, I))
    outputs.sum().backward()
    assert len(loops) == 1


def test_torchs_own_layers_still_end_the_graph():
    layer = nn.GRU(I, 4)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="GRU"):
        compiled(nn.Sequential(elman.RNN(I, 4), layer).forward)(torch.randn(T, B, I))
    with pytest.raises(torch._dynamo.exc.Unsupported, match="GRU"):
        compiled(layer)(torch.randn(T, B, I))
    assert not torch._dynamo.config.allow_rnn


def test_importing_elman_does_not_import_torchs_compiler():
    code = "import sys, elman; elman.LSTM(2, 2); assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_pickled_layer_shares_the_equations_of_its_model():
    layer = elman.LSTM(I, 4, 2)
    again = pickle.loads(pickle.dumps(layer))
    assert again.equations.cells == layer.equations.cells
    assert copy.deepcopy(layer).equations is layer.equations


CALLS = {
    "plain": (elman.Recurrent(cells.LSTM(I, 4)), {}),
    "entering kept": (elman.Recurrent(cells.SLSTM(I, 4)), {}),
    "again": (elman.Recurrent(cells.LSTM(I, 4), memory="recompute"), {}),
    "ragged": (elman.Recurrent(cells.GRU(I, 4)), {"truncate": 2}),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_operators_keep_torchs_contract(name, monkeypatch):
    layer, options = CALLS[name]
    layer = copy.deepcopy(layer).double()
    options = options | (ragged(T, B) if name == "ragged" else {})
    calls = []

    def noted(operator):
        def run(*args):
            calls.append((operator, [_detached(arg) for arg in args]))
            return operator(*args)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        for kind in ("scan", "scan_backward"):
            patch.setattr(torch.ops.elman, kind, noted(getattr(torch.ops.elman, kind)))
        outputs, _ = layer(torch.randn(T, B, I, requires_grad=True), **options)
        outputs.sum().backward()
    (forward, inputs), (backward, saved) = calls
    torch.library.opcheck(backward.default, saved)
    inputs[2] = [t.requires_grad_() if t.is_floating_point() else t for t in inputs[2]]
    torch.library.opcheck(forward.default, inputs)


def _detached(argument):
    if not isinstance(argument, list):
        return argument
    return [a.detach().clone() if isinstance(a, torch.Tensor) else a for a in argument]


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor_equals_eager_mode():
    layer = nn.ModuleList([elman.LSTM(I, 5), nn.Linear(5, 2)])

    def run(x, lengths):
        return layer[1](layer[0](x, lengths=lengths)[0])

    twin = torch.compile(run, fullgraph=True, dynamic=True)
    wrt = [*layer.parameters()]
    for steps, batch in ((T, B), (9, 4)):
        x, lengths = torch.randn(steps, batch, I), torch.arange(batch)
        found, expected = twin(x, lengths), run(x, lengths)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(gradients(found, wrt), gradients(expected, wrt))


def test_transforms_inside_a_compiled_function_equal_eager_mode():
    layer = randomise(elman.GRU(I, 4))
    many = torch.randn(2, 3, B, I)

    def mapped(many):
        return torch.func.vmap(lambda x: layer(x)[0])(many)

    def slope(many):
        return torch.func.grad(lambda x: layer(x)[0].square().sum())(many[0])

    for run in (mapped, slope):
        torch.testing.assert_close(compiled(run)(many), run(many))


@pytest.mark.parametrize("backend", ["auto", "eager", "loop"])
def test_modules_of_a_compiled_cell_may_be_replaced_time_and_again(backend):
    """The old module goes while torch.compile looks whether its graph still holds."""

    class Cell(elman.Cell):
        def __init__(self) -> None:
            super().__init__(3, h=4)
            self.W, self.U, self.act = nn.Linear(3, 4), nn.Linear(4, 4), "tanh"

        def step(self, x, h):
            return getattr(torch, self.act)(self.W(x) + self.U(h))

    layer, x = elman.Recurrent(Cell(), backend=backend), torch.randn(4, 2, 3)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager")
    for act in ("tanh", "relu", "sigmoid"):
        layer.cell.act = act
        for _ in range(2):
            layer.cell.U = nn.Linear(4, 4)
            torch.testing.assert_close(compiled(x)[0], layer(x)[0])
