"""torch's own fused kernels as a backend: what runs on devices that elman has no kernels for."""

import pytest
import torch

import elman
from elman.backends import torch_fused
from elman.cells import GRU, LSTM, Elman, PeepholeLSTM
from elman.layers import Bidirectional, Stack
from tests.backends.layers import answers, assert_as_the_loop, literal
from tests.support import randomise

CELLS = {
    "lstm": lambda: LSTM(3, 5),
    "lstm without bias": lambda: LSTM(3, 5, bias=False),
    "gru": lambda: GRU(3, 5),
    "elman": lambda: Elman(3, 5),
    "elman relu": lambda: Elman(3, 5, activation="relu"),
}
OTHERS = {
    "peephole": lambda: PeepholeLSTM(3, 5),
    "reset before": lambda: GRU(3, 5, reset_after=False),
    "replace": lambda: GRU(3, 5, update="replace"),
    "elman sigmoid": lambda: Elman(3, 5, activation="sigmoid"),
}
WHOLE = None
RAGGED = torch.tensor([4, 7, 0, 1])


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """torch has the same functions for the CPU: there they can be tested everywhere."""
    monkeypatch.setattr(torch_fused, "DEVICES", {"cpu"})


def made(name: str, dtype=torch.float64, **options) -> elman.Recurrent:
    return elman.Recurrent(randomise(CELLS[name]()).to(dtype), **options)


@pytest.mark.parametrize("lengths", [WHOLE, RAGGED], ids=["whole", "ragged"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_as_the_loop(cell, reverse, lengths):
    layer = made(cell, reverse=reverse)
    x = torch.randn(7, 4, 3, dtype=torch.float64, requires_grad=True)
    state = torch.randn(2, 4, 5, dtype=torch.float64).unbind()
    state = state if cell.startswith("lstm") else state[0]
    assert layer.plan().backend == "torch"
    assert_as_the_loop(layer, x, state, [x, *layer.parameters()], lengths=lengths)
    assert_as_the_loop(layer, x, None, [x, *layer.parameters()], lengths=lengths)


def test_it_is_torch_that_runs(monkeypatch):
    called = []
    run = torch_fused.run
    monkeypatch.setattr(torch_fused, "run", lambda *a: called.append(a) or run(*a))
    made("gru")(torch.randn(7, 4, 3, dtype=torch.float64))
    assert len(called) == 1


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_changes_nothing(reverse):
    layer = made("lstm", reverse=reverse)
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    poisoned = x.clone()
    for b, length in enumerate(RAGGED.tolist()):
        poisoned[length:, b] = torch.nan
    wrt = list(layer.parameters())
    found = answers(layer, poisoned, None, wrt, lengths=RAGGED)
    for f, e in zip(found, answers(layer, x, None, wrt, lengths=RAGGED), strict=True):
        torch.testing.assert_close(f, e, rtol=1e-12, atol=1e-12)


def test_no_sequence_has_a_step():
    layer = made("gru")
    x, state = torch.randn(7, 4, 3, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    outputs, last = layer(x, state, lengths=torch.zeros(4, dtype=torch.int64))
    assert not outputs.any() and torch.equal(last, state)


def test_layers_and_directions():
    sizes = [(3, 4), (8, 4)]
    layers = [
        Bidirectional(*(elman.Recurrent(randomise(LSTM(*s)).double(), reverse=r) for r in (0, 1)))
        for s in sizes
    ]
    stack = Stack(layers)
    x = torch.randn(7, 4, 3, dtype=torch.float64, requires_grad=True)
    assert stack.plan().backend == "torch"
    assert_as_the_loop(stack, x, None, [x, *stack.parameters()], lengths=RAGGED)


@pytest.mark.parametrize("memory", ["recompute", 400])
def test_in_segments(memory):
    layer = made("lstm", memory=memory)
    x = torch.randn(7, 4, 3, dtype=torch.float64, requires_grad=True)
    assert_as_the_loop(layer, x, None, [x, *layer.parameters()], lengths=RAGGED)


@pytest.mark.parametrize("cell", OTHERS)
def test_other_equations_run_elsewhere(cell):
    layer = elman.Recurrent(OTHERS[cell]())
    assert layer.plan().backend in ("llvm", "eager")


def test_what_torch_has_not_runs_elsewhere(monkeypatch):
    monkeypatch.setattr(torch_fused, "run", lambda *a: pytest.fail("torch's kernel ran"))
    x = torch.randn(7, 4, 3, dtype=torch.float64, requires_grad=True)
    reset = torch.rand(7, 4) < 0.3
    wrt = [x]
    assert_as_the_loop(made("gru"), x, None, wrt, reset=reset)
    assert_as_the_loop(made("gru"), x, None, wrt, truncate=2)
    assert_as_the_loop(made("lstm"), x, None, wrt, return_states=True)
    assert_as_the_loop(made("lstm", backend="eager"), x, None, wrt)
    assert_as_the_loop(made("lstm", zoneout=0.1).eval(), x, None, wrt)
    assert_as_the_loop(made("lstm", deterministic="batch"), x, None, wrt)


def test_the_plan_says_why():
    text = str(made("gru").plan())
    assert "GRU on torch" in text and "there are no kernels for cpu yet" in text
    assert "one call of step" not in text


def test_a_gradient_in_evaluation():
    layer = made("lstm").eval()
    x = torch.randn(7, 4, 3, dtype=torch.float64, requires_grad=True)
    assert_as_the_loop(layer, x, None, [x])


def test_without_gradients():
    layer = made("gru")
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), literal(layer)(x))
