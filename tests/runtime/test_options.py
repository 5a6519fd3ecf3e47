"""What `scan` may be asked for, through the kernels: gradients of gradients, parts of the answer,
and the same bits again."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import elman
from elman.backends.cpu import program
from elman.cells import CELLS
from elman.cells.cell import weights_of
from elman.runtime.dispatch import ENGINES
from elman.runtime.scan import Execution, scan
from tests.backends.cpu.guards import shared
from tests.backends.support import (
    Problem,
    assert_solves,
    poisoned,
    problem,
    randomised,
    solve,
)

BACKENDS = tuple(sorted(ENGINES))
SOME = ("lstm", "gru", "layer-norm-lstm", "slstm")


def small(name: str, *options: str, T: int = 4, B: int = 3, sizes=(2, 3)) -> Problem:
    return problem(randomised(CELLS[name](*sizes).double()), T, B, *options)


def run(p: Problem, backend: str, inputs: tuple[Tensor, ...] | None = None, **changed):
    """`scan` as a function of x, the state and the weights."""
    weights = weights_of(p.cell)
    count = len(p.state)
    inputs = inputs or (p.x, *p.state, *weights.values())
    named = dict(zip(weights, inputs[1 + count :], strict=True))
    options = {
        "sequence": p.sequence, "noise": p.noise, "reverse": p.reverse,
        "all_states": p.all_states, "execution": Execution(backend),
    }  # fmt: skip
    states, last = scan(p.cell, named, inputs[0], inputs[1 : 1 + count], **options | changed)
    return (*states, *last)


def leaves(p: Problem) -> tuple[Tensor, ...]:
    found = (p.x, *p.state, *weights_of(p.cell).values())
    return tuple(t.detach().clone().requires_grad_() for t in found)


# ------------------------------------------------------------------ derivatives


@pytest.mark.parametrize("options", [(), ("lengths", "reset"), ("reverse", "dropout", "mixed")])
@pytest.mark.parametrize("name", SOME)
def test_the_gradients_of_the_kernels_are_derivatives(name, options, float64) -> None:
    p = small(name, "state", *options)
    assert torch.autograd.gradcheck(lambda *inputs: run(p, "llvm", inputs), leaves(p))


@pytest.mark.parametrize("options", [(), ("lengths", "reset", "reverse")])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_gradients_of_the_gradients_are_derivatives(name, options, float64) -> None:
    p = small(name, "state", *options, T=3, B=2, sizes=(1, 2))
    assert torch.autograd.gradgradcheck(lambda *inputs: run(p, "llvm", inputs), leaves(p))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("truncate",),
        ("lengths", "reset", "truncate", "reverse"),
        ("dropout", "mixed", "lengths"),
    ],
)
def test_second_derivatives_are_those_of_the_loop(backend, options, float64) -> None:
    p = small("lstm", "state", *options)
    expected, found = (_second(p, which) for which in ("loop", backend))
    for e, f in zip(expected, found, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-10, atol=1e-10)


def _second(p: Problem, backend: str) -> tuple[Tensor, ...]:
    """The gradient of the sum of the squares of all first derivatives."""
    inputs = leaves(p)
    total = sum(f.square().sum() for f in run(p, backend, inputs))
    first = torch.autograd.grad(total, inputs, create_graph=True, materialize_grads=True)
    return torch.autograd.grad(sum(d.square().sum() for d in first), inputs, materialize_grads=True)


# ------------------------------------------------------------------ parts of the answer


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("options", [(), ("lengths", "reverse"), ("reset", "dropout", "mixed")])
def test_inference_computes_what_training_computes(backend, name, options, float64) -> None:
    """All parts of the state at all steps, or the first alone, which needs less memory."""
    p = small(name, "state", *options, T=7, B=5)
    trained = run(p, backend, leaves(p))
    with torch.no_grad(), poisoned():
        whole, first = run(p, backend), run(p, backend, all_states=False)
    count = len(p.state)
    for a, b in zip(whole, trained, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=0, atol=1e-14)
    for a, b in zip(first, (whole[0], *whole[count:]), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [(), ("lengths", "reset", "reverse")])
def test_the_first_part_of_the_state_alone(backend, options, float64) -> None:
    for name in SOME:
        p = small(name, "state", *options, T=6, B=5)
        assert_solves(replace(p, all_states=False), torch.float64, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_of_the_outputs_may_go_unused(backend, float64) -> None:
    p = small("lstm", "state", "lengths", "reset", T=5, B=4)
    for used in range(4):
        expected, found = (
            torch.autograd.grad(run(p, which, inputs)[used].sum(), inputs, materialize_grads=True)
            for which in ("loop", backend)
            for inputs in [leaves(p)]
        )
        for e, f in zip(expected, found, strict=True):
            torch.testing.assert_close(f, e, rtol=1e-11, atol=1e-11)


class Learned(elman.Cell):
    """h' = tanh(x + U h), from an initial state that is learned; no product with x."""

    def __init__(self, size: int) -> None:
        super().__init__(size, h=size)
        self.U = nn.Parameter(torch.randn(size, size) * size**-0.5)
        self.start = nn.Parameter(torch.randn(size))

    def initial_state(self, batch_shape, like):
        return (self.start.to(like).expand(*batch_shape, -1),)

    def step(self, x, h):
        return torch.tanh(x + F.linear(h, self.U))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_learned_initial_state_gets_its_gradient(backend, reverse, float64) -> None:
    """From the first step, and from each step after a cut."""
    x, reset = torch.randn(7, 4, 5), torch.rand(7, 4) < 0.4
    lengths = torch.tensor([7, 0, 3, 5])
    loop = elman.Recurrent(Learned(5), reverse=reverse, backend="loop")
    fast = elman.Recurrent(loop.cell, reverse=reverse, backend=backend)
    for options in ({}, {"reset": reset}, {"reset": reset, "lengths": lengths, "truncate": 2}):
        found, expected = [], []
        for layer, results in ((fast, found), (loop, expected)):
            outputs, state = layer(x, **options)
            total = (outputs * torch.arange(5)).sum() + state.square().sum()
            results += [outputs, state, *torch.autograd.grad(total, list(layer.parameters()))]
        for f, e in zip(found, expected, strict=True):
            torch.testing.assert_close(f, e, rtol=1e-11, atol=1e-11)


# ------------------------------------------------------------------ shares of the work


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("way", [(2, False), (2, True), (3, False), (3, True)])
@pytest.mark.parametrize("name", ["lstm", "rhn", "layer-norm-lstm"])
def test_however_the_work_is_shared(name, way, two_threads, float64, monkeypatch) -> None:
    monkeypatch.setattr(program, "partition", shared(*way))
    cell = randomised(CELLS[name](3, 40).double())
    for B in (1, 2, 9):
        for options in ((), ("lengths", "reset", "truncate", "reverse", "state")):
            assert_solves(problem(cell, 5, B, *options), torch.float64, "llvm")


# ------------------------------------------------------------------ the same bits

#: What is summed over all rows after the loop, by torch's matrix product.
SUMMED = ("d weight_ih", "d weight_hh", "d bias_ih", "d bias_hh")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [(), ("lengths", "reset", "reverse", "dropout", "mixed")])
def test_a_second_run_gives_the_same_bits(dtype, options, two_threads, float64) -> None:
    """Outputs and all gradients, on two threads."""
    for name in ("lstm", "gru"):
        p = small(name, "state", *options, T=9, B=33, sizes=(6, 40)).to(dtype)
        first = solve(p, "llvm")
        for _ in range(3):
            _assert_same_bits(solve(p, "llvm"), first)


@pytest.mark.parametrize("units", [False, True])
def test_any_number_of_threads_gives_the_same_bits(
    units, two_threads, monkeypatch, float64
) -> None:
    """The sums over all rows are torch's: they are left out here."""
    p = small("lstm", "state", "lengths", T=9, B=33, sizes=(6, 40)).to(torch.float32)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        monkeypatch.setattr(program, "partition", shared(threads, units and threads > 1))
        answers = solve(p, "llvm")
        found.append({name: a for name, a in answers.items() if name not in SUMMED})
    _assert_same_bits(*found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_alone_gives_the_bits_it_has_in_a_batch(dtype, float64) -> None:
    """In the loop; what torch multiplies outside it is another matter, so this cell has no such
    product."""
    cell = Learned(40).to(dtype)
    x = torch.randn(11, 17, 40, dtype=dtype)
    together = _bits(cell, x)
    for b in (0, 3, 16):
        alone = _bits(cell, x[:, b : b + 1].contiguous())
        _assert_same_bits(alone, {n: t[:, b : b + 1] for n, t in together.items()})


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_halves_give_the_bits_of_the_whole(backend, float64) -> None:
    cell, x = Learned(19), torch.randn(10, 3, 19)
    layer = elman.Recurrent(cell, backend=backend)
    with torch.no_grad():
        whole, last = layer(x)
        first, state = layer(x[:4])
        second, state = layer(x[4:], state)
    assert torch.equal(torch.cat([first, second]), whole) and torch.equal(state, last)


def _bits(cell: elman.Cell, x: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    states, last = scan(
        cell, weights_of(cell), x, cell.initial_state((x.shape[1],), x),
        execution=Execution("llvm"),
    )  # fmt: skip
    [d_x] = torch.autograd.grad(states[0].square().sum() + last[0].sum(), x)
    return {"states": states[0].detach(), "last": last[0].detach()[None], "d x": d_x}


def _assert_same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    differing = [n for n in expected if not torch.equal(found[n], expected[n])]
    assert found.keys() == expected.keys() and not differing, differing
