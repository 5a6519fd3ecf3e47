"""Numbers below the least normal one are 0 in all threads alike, unless the step can tell."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import elman
from elman.backends.cpu.codegen import denormals
from elman.backends.cpu.jit.target import host
from elman.cells import CELLS
from elman.cells.cell import weights_of
from elman.runtime.dispatch import plan_of
from elman.runtime.scan import Regularisation

LEAST = 2.0**-126
there = pytest.mark.skipif(
    "sse" not in host().flags and not host().is_arm, reason="needs a control word that is known"
)


class Decay(elman.Cell):
    """h' = f(h / 2 + x)."""

    def __init__(self, size: int, f=lambda u: u) -> None:
        super().__init__(size, h=size)
        self.U = nn.Parameter(torch.eye(size) / 2)
        self.b = nn.Parameter(torch.zeros(size))
        self.f = f

    def step(self, x, h):
        return self.f(F.linear(h, self.U) + x + self.b)


def decayed(layer, steps=140, batch=4, size=8):
    """The last state after so many halvings of 1, and the gradients of the parameters."""
    x, h = torch.zeros(steps, batch, size), torch.ones(batch, size)
    y, state = layer(x, h)
    grads = torch.autograd.grad(y.sum(), list(layer.parameters()))
    return state.detach(), grads


@there
def test_a_state_that_vanishes_is_0_and_the_loops_is_less_than_the_least_normal() -> None:
    cell = Decay(8)
    found, d_found = decayed(elman.Recurrent(cell, backend="llvm"))
    right, d_right = decayed(elman.Recurrent(cell, backend="loop"))
    assert torch.equal(found, torch.zeros(4, 8)) and 0 < right.max() < LEAST
    for d, e in zip(d_found, d_right, strict=True):
        torch.testing.assert_close(d, e)


@there
def test_a_gradient_that_vanishes_is_0_too() -> None:
    layer, h = elman.Recurrent(Decay(8, F.relu), backend="llvm"), torch.ones(4, 8)
    h.requires_grad_()
    y, _ = layer(torch.zeros(140, 4, 8), h)
    [d_h] = torch.autograd.grad(y[-1].sum(), h)
    assert torch.equal(d_h, torch.zeros(4, 8))
    [d_h] = torch.autograd.grad(layer(torch.zeros(20, 4, 8), h)[0][-1].sum(), h)
    assert bool((d_h == 2.0**-20).all())


@pytest.mark.parametrize(
    "f",
    [
        F.relu,
        lambda u: torch.log(torch.exp(torch.tanh(u) - 95.0)),
        lambda u: torch.where(u > 0, u, 1.0),
    ],
)
def test_a_step_that_can_tell_sees_them(f) -> None:
    cell = Decay(8, f)
    found, d_found = decayed(elman.Recurrent(cell, backend="llvm"))
    right, d_right = decayed(elman.Recurrent(cell, backend="loop"))
    torch.testing.assert_close(found, right, atol=0, rtol=1e-5)
    for d, e in zip(d_found, d_right, strict=True):
        torch.testing.assert_close(d, e, equal_nan=True)


def _computes_with_them() -> bool:
    return bool(torch.tensor(2.0**-140).mul(1.0))


@there
@pytest.mark.parametrize("f", [torch.tanh, F.relu])
def test_all_threads_are_alike_and_stay_as_they_are(f) -> None:
    """Whether their thread, or the team that works for it, computes with such numbers or not."""
    before, layer = torch.get_num_threads(), elman.Recurrent(Decay(16, f), backend="llvm")
    found, modes = [], []

    def work(flush: bool, threads: int) -> None:
        torch.set_flush_denormal(flush)
        torch.set_num_threads(threads)  # a new team, of threads that begin as this one is
        with torch.no_grad():
            found.append(layer(torch.zeros(140, 64, 16), torch.ones(64, 16))[0])
        modes.append(_computes_with_them() is not flush)
        torch.set_flush_denormal(False)

    for flush in (False, True):
        for threads in (1, 2):
            thread = threading.Thread(target=work, args=(flush, threads))
            thread.start()
            thread.join()
    torch.set_num_threads(before)
    assert modes == [True] * 4 and _computes_with_them()
    assert all(torch.equal(each, found[0]) for each in found)
    assert bool(((found[0] > 0) & (found[0] < LEAST)).any()) is (f is F.relu)


@there
def test_a_stream_gives_what_the_sequence_gives() -> None:
    layer = elman.Recurrent(Decay(8), backend="llvm")
    stream = layer.stream(batch_size=4)
    stream.state = ((torch.ones(4, 8),),)
    with torch.no_grad():
        right = layer(torch.zeros(140, 4, 8), torch.ones(4, 8))[0]
        for y in right:
            assert torch.equal(stream(torch.zeros(4, 8)), y)


def test_which_cells_can_tell() -> None:
    modes = {}
    for name, make in CELLS.items():
        cell = make(4, 4)
        modes[name] = denormals.mode(plan_of(cell, weights_of(cell), Regularisation()))
    both = denormals.RESULTS | denormals.OPERANDS
    assert all(modes[name] == both for name in ("elman", "lstm", "gru", "layer-norm-lstm", "rhn"))
    assert {n for n, m in modes.items() if m != both} == {
        "li-gru", "ind-rnn", "slstm", "min-lstm", "nas"
    }  # fmt: skip
