"""Saved graphs: they run their own cell, in any process, and say what they cannot do."""

import gc
import io
import subprocess
import sys
import warnings
import weakref

import pytest
import torch
from torch import nn

import elman
from elman import cells
from elman.errors import BackendError, SavedPlanError, ShapeError
from tests.layers.zoo import I
from tests.support import assert_close, assert_equal, randomise

T, B = 5, 6


class Leaky(elman.Cell):
    """With a buffer, a learned initial state and operations on weights alone."""

    def __init__(self):
        super().__init__(I, h=4, a=4)
        self.W, self.U = nn.Linear(I, 4), nn.Linear(4, 4, bias=False)
        self.start = nn.Parameter(torch.randn(4))
        self.register_buffer("rate", torch.tensor([0.1, 0.2, 0.3, 0.4]))

    def initial_state(self, batch_shape, like):
        return self.start.expand(*batch_shape, 4), like.new_ones(*batch_shape, 4)

    def step(self, x, h, a):
        new = torch.tanh(
            self.W(x) + torch.softmax(self.U.weight, 0) @ self.U.weight.sum(0) + self.U(h)
        )
        return h + self.rate * (new - h), 0.9 * a + h


class Odd(elman.Cell):
    """Without a plan."""

    def __init__(self):
        super().__init__(I, h=4)
        self.W, self.U = nn.Linear(I, 4), nn.Linear(4, 4)

    def step(self, x, h):
        return torch.tanh(self.W(x) + self.U(h).cumsum(-1))


class Ragged(nn.Module):
    """A layer with all that can be said of a batch."""

    def __init__(self, layer, truncate=None):
        super().__init__()
        self.layer, self.truncate = layer, truncate

    def forward(self, x, state, lengths, reset):
        return self.layer(x, state, lengths, reset, self.truncate, return_states=True)


def inputs(steps, batch, *state):
    lengths, reset = torch.arange(batch) % (steps + 1), torch.rand(steps, batch) < 0.3
    return torch.randn(steps, batch, I), tuple(state), lengths, reset


#: Where T and B are dynamic, whatever is exported.
SIZES = {0: torch.export.Dim("T", max=10_000), 1: torch.export.Dim("B", max=10_000)}
ONE = {0: SIZES[1]}


def saved(layer, *args, **options):
    file = io.BytesIO()
    torch.export.save(torch.export.export(layer, args, **options), file)
    file.seek(0)
    return file


def exports():
    """name -> (a module that was exported, an example, another batch, dynamic shapes)"""
    torch.manual_seed(0)
    lstm = randomise(elman.LSTM(I, 4, 2, bidirectional=True))
    both = tuple({1: SIZES[1]} for _ in range(2))
    return {
        "tanh": (elman.Recurrent(cells.Elman(I, 4)), (torch.randn(T, B, I),), None, None),
        "single": (elman.GRU(I, 4).float(), (torch.randn(T, B, I).float(),), None, None),
        "user's own": (
            Ragged(elman.Recurrent(Leaky(), reverse=True), 2),
            inputs(T, B, torch.randn(B, 4), torch.randn(B, 4)),
            inputs(9, 3, torch.randn(3, 4), torch.randn(3, 4)),
            (SIZES, (ONE, ONE), ONE, SIZES),
        ),
        "bidirectional": (
            Ragged(lstm),
            inputs(T, B, torch.randn(4, B, 4), torch.randn(4, B, 4)),
            inputs(9, 3, torch.randn(4, 3, 4), torch.randn(4, 3, 4)),
            (SIZES, both, ONE, SIZES),
        ),
    }  # fmt: skip


ELSEWHERE = """
import sys, torch, elman
assert not any("test_export" in name for name in sys.modules)
relu = elman.Recurrent(elman.cells.Elman(3, 4, activation="relu").double())
relu(torch.randn(5, 6, 3).double())
found = {}
for name, (file, args) in torch.load("graphs.pt", weights_only=False).items():
    found[name] = torch.export.load(file).module()(*args)
torch.save(found, "found.pt")
"""


def test_a_saved_graph_runs_its_own_cell_in_another_process(tmp_path):
    graphs, expected = {}, {}
    for name, (module, example, other, shapes) in exports().items():
        args = example if other is None else other
        graphs[name] = (saved(module, *example, dynamic_shapes=shapes), args)
        expected[name] = module(*args)
    torch.save(graphs, tmp_path / "graphs.pt")
    subprocess.run([sys.executable, "-c", ELSEWHERE], cwd=tmp_path, check=True)
    found = torch.load(tmp_path / "found.pt")
    for name, results in expected.items():
        assert_equal(found[name], results)


def test_a_graph_does_not_need_the_layer_it_was_made_of():
    layer = elman.Recurrent(cells.GRU(I, 4))
    x = torch.randn(T, B, I)
    exported = torch.export.export(layer, (x,)).module()
    with torch.no_grad():
        expected = layer(x)
    gone = weakref.ref(layer.cell)
    del layer
    gc.collect()
    assert gone() is None
    assert_equal(exported(x), expected)


def test_a_loaded_graph_has_gradients_of_both_orders():
    layer, x = elman.Recurrent(Leaky()), torch.randn(T, 2, I)
    twin = torch.export.load(saved(layer, x)).module()
    loop = elman.Recurrent(layer.cell, backend="loop")
    names = ["W.weight", "U.weight", "start"]
    found = []
    for run in (twin, loop):
        named = {name.rpartition("cell.")[2]: p for name, p in run.named_parameters()}
        weights = [named[name] for name in names]
        first = torch.autograd.grad(run(x)[0].square().sum(), weights, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), weights)
        found.append((first, second))
    assert_close(*found)


def test_a_cell_without_a_plan_is_unrolled_and_says_so_once():
    layer, x = elman.Recurrent(Odd()), torch.randn(T, B, I)
    with pytest.warns(RuntimeWarning, match="Odd is in the graph as the literal loop"):
        twin = torch.export.load(saved(layer, x)).module()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.export.export(layer, (x,))
    with torch.no_grad():
        assert_close(twin(x), layer(x))


@pytest.mark.filterwarnings("ignore:.*literal loop")
def test_a_loop_of_any_length_needs_a_plan():
    with pytest.raises(BackendError, match="Odd can stand in an exported graph only step by step"):
        saved(elman.Recurrent(Odd()), torch.randn(T, B, I), dynamic_shapes=(SIZES,))
    with pytest.raises(BackendError, match="backend='llvm' cannot run Odd in a graph"):
        saved(elman.Recurrent(Odd(), backend="llvm"), torch.randn(T, B, I))


def operands():
    """What the operator is given for one layer."""
    layer, x = elman.Recurrent(cells.GRU(I, 4)), torch.randn(T, B, I)
    [node] = [
        node for node in torch.export.export(layer, (x,)).graph.nodes if "scan" in str(node.target)
    ]
    plan, call, tensors, *rest = node.args
    weights = {name.replace(".", "_"): p.detach() for name, p in layer.named_parameters()}
    given = [x, torch.zeros(B, 4), *(weights[str(t).removeprefix("p_")] for t in tensors[2:])]
    return plan, call, given, *rest


def test_the_operator_refuses_texts_and_tensors_that_do_not_fit():
    plan, call, tensors, *rest = operands()
    scan = torch.ops.elman.scan
    assert scan(plan, call, tensors, *rest)[0].shape == (T, B, 4)
    x, h, *weights = tensors
    for wrong in (
        tensors[:-1],
        [x, h[:3], *weights],
        [x, h.float(), *weights],
        [x[..., :2], h, *weights],
        [x[0], h, *weights],
        [x, h, weights[0][:-1], *weights[1:]],
        [x, h, weights[0].float(), *weights[1:]],
    ):
        with pytest.raises(ShapeError, match="elman::scan"):
            scan(plan, call, wrong, *rest)
    for texts in ((plan[:-9], call), ("", call), (plan, ""), (plan, call.replace("auto", "fast"))):
        with pytest.raises(SavedPlanError):
            scan(*texts, tensors, *rest)
