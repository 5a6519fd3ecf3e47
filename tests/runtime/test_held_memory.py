"""What the backward pass reads is freed when torch frees it, and its hooks see all of it."""

import gc
import subprocess
import sys
import weakref
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.graph import (
    allow_mutation_on_saved_tensors,
    save_on_cpu,
    saved_tensors_hooks,
)
from torch.utils.checkpoint import checkpoint

import elman
from elman import cells
from elman.cells import GRU, LSTM, SLSTM
from elman.errors import ShapeError
from elman.layers import Recurrent
from tests.backends.layers import FAST, answers, layer_of, literal, weights
from tests.support import randomise

CELLS = {"LSTM": LSTM, "GRU": GRU, "SLSTM": SLSTM}  # SLSTM keeps what enters the loop
OPTIONS = {
    "plain": {},
    "ragged": {"lengths": [5, 0, 3], "truncate": 2},
    "cut": {"reset": torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]]).bool()},
}


@pytest.fixture(autouse=True)
def _in_float64(float64) -> None:
    """Ask for the fixture `float64` in every test of this file."""


def _checkpointed(use_reentrant: bool):
    def run(forward):
        # The argument makes the reentrant form differentiable.
        lever = torch.ones((), requires_grad=True)
        return checkpoint(forward, lever, use_reentrant=use_reentrant)

    return run


def _plain(forward):
    return forward(1.0)


def _turned(tensor):
    """The same numbers, the last axis first in memory."""
    return tensor.T.contiguous().T if tensor.dim() == 2 else tensor


#: What surrounds the forward and backward pass, and how the forward pass is run.
WAYS = {
    "save_on_cpu": (save_on_cpu, _plain),
    "copies": (lambda: saved_tensors_hooks(torch.clone, torch.clone), _plain),
    "other strides": (lambda: saved_tensors_hooks(torch.clone, _turned), _plain),
    "checkpoint": (nullcontext, _checkpointed(False)),
    "reentrant checkpoint": (nullcontext, _checkpointed(True)),
}


@FAST
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("way", WAYS)
def test_gradients_under_hooks_on_saved_tensors_are_the_loops(way, options, backend) -> None:
    for name, cell in CELLS.items():
        for reverse in (False, True):
            layer = layer_of(backend, randomise(cell(3, 4)), reverse=reverse)
            x = torch.randn(5, 3, 3, requires_grad=True)
            wrt = [x, *weights(layer)]
            expected = answers(literal(layer), x, None, wrt, **OPTIONS[options])

            def forward(lever, layer=layer, x=x):
                outputs, state = layer(x * lever, **OPTIONS[options])
                return outputs, *(state if isinstance(state, tuple) else (state,))

            surrounding, run = WAYS[way]
            with surrounding():
                results = run(forward)
                parts = [r * torch.linspace(-1, 1, r.numel()).view(r.shape) for r in results]
                sum(part.sum() for part in parts).backward()
            found = [*(r.detach() for r in results), *(w.grad for w in wrt)]
            for f, e in zip(found, expected, strict=True):
                torch.testing.assert_close(f, e, rtol=1e-11, atol=1e-11, msg=f"{name} {reverse}")


@pytest.mark.filterwarnings("ignore:.*has to see every operation")
def test_outputs_changed_in_place_where_torch_is_told_to_allow_it() -> None:
    """It has to see every change, so the loop runs, and says so."""
    layer, x = layer_of("auto", randomise(LSTM(3, 4))), torch.randn(5, 2, 3)
    expected = torch.autograd.grad(layer(x)[0].mul(2).square().sum(), weights(layer))
    with allow_mutation_on_saved_tensors():
        outputs, _ = layer(x)
        found = torch.autograd.grad(outputs.mul_(2).square().sum(), weights(layer))
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e)


@pytest.mark.parametrize("kind", [elman.RNN, elman.GRU, elman.LSTM, *cells.CELLS.values()])
def test_everything_that_was_saved_may_be_changed_where_torch_allows_it(kind) -> None:
    layer = kind(4, 4) if kind.__module__.startswith("elman.layers") else Recurrent(kind(4, 4))
    x = torch.randn(5, 2, 4)
    expected = torch.autograd.grad(layer(x)[0].square().sum(), weights(layer), allow_unused=True)
    with allow_mutation_on_saved_tensors():
        given = x * 1.0
        loss = layer(given)[0].square().sum()
        with torch.no_grad():
            for tensor in (given, *layer.parameters()):
                tensor.zero_()
        found = torch.autograd.grad(loss, weights(layer), allow_unused=True)
    torch.testing.assert_close(found, expected)


@FAST
def test_a_view_of_memory_that_is_freed_is_refused(backend) -> None:
    whole = torch.randn(9, 2, 3)
    x = whole[2:6]
    whole.untyped_storage().resize_(0)
    with pytest.raises(ShapeError, match="has been freed"):
        layer_of(backend)(x)


@FAST
def test_outputs_whose_memory_is_freed_are_refused(backend) -> None:
    layer = layer_of(backend)
    outputs, _ = layer(torch.randn(4, 2, 3))
    outputs.untyped_storage().resize_(0)
    with pytest.raises(ShapeError, match="has been freed"):
        torch.autograd.grad(outputs, weights(layer), torch.ones(outputs.shape))


INPLACE = {
    "y += x": lambda y: y.add_(1.0),
    "relu_": F.relu_,
    "dropout": lambda y: F.dropout(y, 0.5, inplace=True),
}


@FAST
@pytest.mark.parametrize("change", INPLACE)
def test_work_in_place_on_outputs_says_what_to_do_instead(change, backend) -> None:
    for layer in (layer_of(backend), elman.GRU(3, 5, backend=backend)):
        y, _ = layer(torch.randn(4, 2, 3))
        total = INPLACE[change](y).square().sum()
        with pytest.raises(RuntimeError, match=r"inplace operation.*y = y \+ x"):
            total.backward()
        # A copy may be changed, and so may what is one: two directions side by side, padding.
        y, _ = layer(torch.randn(4, 2, 3))
        INPLACE[change](y.clone()).sum().backward()
        y, _ = layer(torch.randn(4, 2, 3), lengths=[4, 2])
        INPLACE[change](y).sum().backward()


MEASURE = """
import ctypes, gc, sys
import torch, elman
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint
from elman.backends import memory

T, B, H = 200, 32, 64
layers = {
    "torch": lambda: torch.nn.LSTM(H, H),
    "elman": lambda: elman.LSTM(H, H),
    "layer norm": lambda: elman.Recurrent(elman.cells.LayerNormLSTM(H, H)),
}

def resident():
    gc.collect()
    memory.release()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def run(layer, way):
    x = torch.randn(T, B, H)
    if way == "checkpoint":
        outputs = checkpoint(lambda x: layer(x)[0], x, use_reentrant=False)
    elif way == "save_on_cpu":
        with save_on_cpu():
            outputs = layer(x)[0]
    else:
        outputs = layer(x)[0]
    loss = (outputs * x).mean()
    loss.backward()
    return loss

torch.set_num_threads(1)
for way in ("plain", "checkpoint", "save_on_cpu"):
    for name, make in layers.items():
        layer = make()
        run(layer, way)
        before = resident()
        losses = [run(layer, way) for _ in range(4)]
        print(way, name, resident() - before, sep="\\t")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read in Linux's words")
def test_losses_that_are_kept_hold_no_more_than_torchs() -> None:
    """Four losses after their backward pass: at most 1.2 times what torch.nn.LSTM's hold, with a
    megabyte for what no layer is to blame for."""
    found = subprocess.run(
        [sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True, timeout=300
    )
    held = {}
    for line in found.stdout.splitlines():
        way, name, size = line.split("\t")
        held[way, name] = int(size)
    assert len(held) == 9
    for (way, name), size in held.items():
        assert size <= 1.2 * max(held[way, "torch"], 0) + 2**20, (way, name, held)


@FAST
@pytest.mark.parametrize("memory", ["save", "recompute"])
def test_what_was_passed_in_goes_with_the_backward_pass(memory, backend) -> None:
    """Though the loss is kept."""
    layer = layer_of(backend, memory=memory, zoneout=0.2, state_dropout=0.1)
    x, state = torch.randn(9, 2, 3), (torch.randn(2, 5), torch.randn(2, 5))
    reset = torch.rand(9, 2) < 0.3
    passed = [weakref.ref(t) for t in (x, reset, *state)]
    loss = layer(x, state, lengths=[9, 4], reset=reset)[0].sum()
    del x, reset, state
    loss.backward()
    gc.collect()
    assert loss.requires_grad and [ref() for ref in passed] == [None] * 4
