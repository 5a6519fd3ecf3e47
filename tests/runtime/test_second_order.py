"""Gradients that are differentiated again, or taken many at once, are the loop's."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call

import elman
from elman.cells import CELLS, GRU, LSTM, SLSTM, SRU, MinLSTM
from tests.backends.layers import FAST, layer_of, literal
from tests.support import assert_close, randomise

#: Gradients that can be differentiated again say that they are slower.
pytestmark = pytest.mark.filterwarnings("ignore:.*a step at a time by torch's operations")


@pytest.fixture(autouse=True)
def _in_float64(float64) -> None:
    """Ask for the fixture `float64` in every test of this file."""


class Entering(elman.Cell):
    """a = tanh(x W),  h' = a * h + exp(a): one value enters twice."""

    def __init__(self, size: int) -> None:
        super().__init__(size, h=size)
        self.W = nn.Parameter(torch.randn(size, size) * 0.5)

    def step(self, x, h):
        a = torch.tanh(x @ self.W)
        return a * h + torch.exp(a)


class Tied(elman.Cell):
    """h' = tanh(x W + h W): one parameter in two places."""

    def __init__(self, size: int) -> None:
        super().__init__(size, h=size)
        self.W = nn.Parameter(torch.randn(size, size) * 0.5)

    def step(self, x, h):
        return torch.tanh(x @ self.W + h @ self.W)


class Derived(elman.Cell):
    """h' = tanh(x (A B) + h (A B * A)^T): weights that are computed from others."""

    def __init__(self, size: int) -> None:
        super().__init__(size, h=size)
        self.A = nn.Parameter(torch.randn(size, size) * 0.5)
        self.B = nn.Parameter(torch.randn(size, size) * 0.5)

    def step(self, x, h):
        W = self.A @ self.B
        return torch.tanh(x @ W + h @ (W * self.A).t())


# ------------------------------------------------------------------ programs


def once(layer, x):
    return layer(x)[0].pow(3).mean()


def steps(layer, x):
    """A stream whose state is carried with its graph."""
    state, total = None, 0.0
    for x_t in x:
        y, state = layer.step(x_t, state)
        total = total + y.pow(3).mean()
    return total


def chunks(layer, x):
    first, state = layer(x[:3])
    second, _ = layer(x[3:], state)
    return first.pow(3).mean() + second.pow(2).mean()


def nested(layer, x):
    return layer(layer(x)[0])[0].pow(3).mean()


def ragged(layer, x):
    reset = torch.zeros(x.shape[:2], dtype=torch.bool)
    reset[2, 1] = reset[3, 0] = True
    outputs, state = layer(x, lengths=[5, 3], reset=reset, truncate=2)
    state = state if isinstance(state, tuple) else (state,)
    return outputs.pow(3).mean() + sum(part.pow(2).mean() for part in state)


PROGRAMS = (once, steps, chunks, nested, ragged)


def both_orders(layer, program):
    """The gradients of a program, under create_graph, and those of a function of them."""
    x = torch.randn(5, 2, layer.input_size, generator=torch.Generator().manual_seed(3))
    wrt = [x.requires_grad_(), *layer.parameters()]
    options = {"allow_unused": True, "materialize_grads": True}
    first = torch.autograd.grad(program(layer, x), wrt, create_graph=True, **options)
    total = sum((g * torch.linspace(-1, 1, g.numel()).view(g.shape)).sum() for g in first)
    second = torch.autograd.grad(total + sum(g.square().sum() for g in first), wrt, **options)
    return *(g.detach() for g in first), *second


def assert_both_orders(layer, *programs) -> None:
    for program in programs:
        found, expected = both_orders(layer, program), both_orders(literal(layer), program)
        for f, e in zip(found, expected, strict=True):
            torch.testing.assert_close(f, e, rtol=1e-9, atol=1e-10)


CASES = {
    "entering": lambda: Entering(3), "tied": lambda: Tied(3), "derived": lambda: Derived(3),
    "MinLSTM": lambda: MinLSTM(3, 3), "SRU": lambda: SRU(3, 3), "GRU": lambda: GRU(3, 3),
    "SLSTM": lambda: SLSTM(3, 3),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_both_orders_of_programs_are_the_loops(name) -> None:
    cell = CASES[name]()
    cell = cell if name in ("entering", "tied", "derived") else randomise(cell)
    assert_both_orders(layer_of("llvm", cell), *PROGRAMS)
    assert_both_orders(layer_of("llvm", cell, memory="recompute"), *PROGRAMS)
    assert_both_orders(layer_of("eager", cell, memory=100), chunks, nested)


@pytest.mark.parametrize("name", CELLS)
def test_both_orders_of_every_cell_are_the_loops(name) -> None:
    cell = randomise(CELLS[name](3, 4))
    assert_both_orders(layer_of("llvm", cell), once, chunks)
    assert_both_orders(layer_of("llvm", cell, reverse=True, memory="recompute"), ragged)


@pytest.mark.parametrize("kind", [elman.RNN, elman.LSTM, elman.GRU])
def test_both_orders_of_the_drop_ins_are_the_loops(kind) -> None:
    layer = randomise(kind(3, 2, num_layers=2, bidirectional=True))
    assert_both_orders(layer, once, ragged)
    assert_both_orders(randomise(kind(3, 3)), steps)


# ------------------------------------------------------------------ methods that need it


def test_the_gradient_penalty_of_a_critic() -> None:
    """WGAN-GP: (|d critic / d x| - 1)^2, Gulrajani et al. 2017."""
    critic, head = elman.LSTM(3, 5), nn.Linear(5, 1)
    twin = literal(critic)

    def penalty(layer):
        x = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
        score = head(layer(x)[0][-1])
        (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)
        return (slope.transpose(0, 1).flatten(1).norm(dim=1) - 1).square().mean()

    found, expected = penalty(critic), penalty(twin)
    assert_close(found, expected)
    wrt = list(critic.parameters())
    assert_close(
        *(torch.autograd.grad(p, wrt, allow_unused=True, materialize_grads=True)
          for p in (found, expected))
    )  # fmt: skip


def test_learning_to_learn_through_two_inner_steps() -> None:
    """MAML: the gradient of a loss after steps of gradient descent, Finn et al. 2017."""
    layer = randomise(elman.GRU(2, 3))
    x, y, x2, y2 = (torch.randn(4, 3, size) for size in (2, 3, 2, 3))

    def outer(layer):
        values = dict(layer.named_parameters())
        for _ in range(2):
            inner = (functional_call(layer, values, (x,))[0] - y).square().mean()
            grads = torch.autograd.grad(inner, list(values.values()), create_graph=True)
            pairs = zip(values.items(), grads, strict=True)
            values = {name: value - 0.5 * grad for (name, value), grad in pairs}
        loss = (functional_call(layer, values, (x2,))[0] - y2).square().mean()
        return torch.autograd.grad(loss, list(layer.parameters()))

    for f, e in zip(outer(layer), outer(literal(layer)), strict=True):
        torch.testing.assert_close(f, e, rtol=1e-9, atol=1e-10)


# ------------------------------------------------------------------ many gradients at once

VARIANTS = {
    "plain": {},
    "ragged": {"lengths": [4, 2]},
    "cut": {"reset": torch.tensor([[0, 0], [0, 1], [1, 0], [0, 0]]).bool(), "truncate": 2},
}


@FAST
@pytest.mark.parametrize("memory", ["save", "recompute"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_batched_gradients_are_the_loops(variant, memory, backend) -> None:
    options = VARIANTS[variant]
    for cell in (LSTM(3, 4), SLSTM(3, 2)):
        layer = layer_of(backend, randomise(cell), memory=memory)
        twin = literal(layer)
        x = torch.randn(4, 2, 3, requires_grad=True)
        wrt, found = [x, *layer.parameters()], []
        for each in (layer, twin):
            outputs = each(x, **options)[0]
            cotangents = torch.stack([torch.ones_like(outputs), outputs.detach().cos()])
            found.append(torch.autograd.grad(outputs, wrt, cotangents, is_grads_batched=True))
        assert_close(*found)

        def outputs(x, layer=layer):
            return layer(x, **options)[0]

        def total(x, layer=layer):
            return layer(x, **options)[0].pow(3).sum()

        slow = jacobian(lambda x, twin=twin: twin(x, **options)[0], x)
        assert_close(jacobian(outputs, x, vectorize=True), slow)
        slow = hessian(lambda x, twin=twin: twin(x, **options)[0].pow(3).sum(), x)
        assert_close(hessian(total, x, vectorize=True), slow)


def test_torchs_own_checks_of_batched_gradients_pass() -> None:
    layer = elman.LSTM(2, 2, bidirectional=True)
    x = torch.randn(3, 2, 2, requires_grad=True)
    assert gradcheck(lambda x: layer(x)[0], x, check_batched_grad=True)
    assert gradgradcheck(lambda x: layer(x)[0], x, check_batched_grad=True)


def test_a_layer_inside_a_transform_of_something_else() -> None:
    layer, x, scales = elman.LSTM(3, 2, bidirectional=True), torch.randn(4, 2, 3), torch.randn(3)
    found = torch.func.vmap(lambda s: layer(x, lengths=[4, 1])[0].sum() * s)(scales)
    torch.testing.assert_close(found, layer(x, lengths=[4, 1])[0].sum() * scales)


def test_the_slower_way_is_told_once(recwarn) -> None:
    class Told(Entering):
        pass

    layer, x = layer_of("llvm", Told(3)), torch.randn(4, 2, 3)
    for _ in range(3):
        torch.autograd.grad(once(layer, x), list(layer.parameters()), create_graph=True)
    told = [w for w in recwarn if "Told" in str(w.message)]
    assert len(told) == 1 and "a step at a time" in str(told[0].message)


@pytest.mark.parametrize("memory", ["save", "recompute"])
@pytest.mark.parametrize(
    "part",
    [
        lambda c, h: c.k + torch.zeros_like(h),
        lambda c, h: c.w[0].expand_as(h),
        lambda c, h: torch.ones_like(h) * 0.5,
    ],
)
def test_a_part_of_the_state_that_is_made_of_weights_alone(memory, part):
    class Fixed(elman.Cell):
        def __init__(self) -> None:
            super().__init__(4, h=4, c=4)
            self.w = nn.Parameter(torch.randn(4, 4) / 2)
            self.register_buffer("k", torch.randn(4))

        def step(self, x, h, c):
            return torch.tanh(x + h @ self.w + c), part(self, h)

    cell, x = Fixed(), torch.randn(4, 3, 4, requires_grad=True)

    def gradients(**options):
        y = elman.Recurrent(cell, **options)(x)[0]
        first = torch.autograd.grad(y.square().sum(), [x, cell.w], create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), [x, cell.w])
        return [*first, *second]

    for found, expected in zip(gradients(memory=memory), gradients(backend="loop"), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("backend", ["llvm", "eager", "loop"])
def test_a_part_of_the_state_that_no_step_reads_has_no_gradient(backend):
    """Its graph, which may be gone by then, is not asked for one."""

    class Forgetful(elman.Cell):
        def __init__(self) -> None:
            super().__init__(4, h=4, c=4)
            self.W = nn.Linear(4, 4)

        def step(self, x, h, c):
            return torch.tanh(self.W(x) + c), c * 0.5

    layer, x = elman.Recurrent(Forgetful(), backend=backend), torch.randn(3, 2, 4)
    h, c = (torch.randn(2, 4, requires_grad=True) for _ in range(2))
    outputs, _ = layer(x, (h, c))
    d_h, d_c = torch.autograd.grad(outputs.sum(), [h, c], allow_unused=True)
    assert d_h is None and d_c is not None
    # A row without a step hands its state on.
    _, (last, _) = layer(x, (h, c), lengths=[3, 0])
    assert torch.autograd.grad(last.sum(), h)[0].tolist() == [[0.0] * 4, [1.0] * 4]


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("memory", ["save", "recompute"])
@pytest.mark.parametrize("backend", ["llvm", "eager"])
def test_the_graph_of_what_no_step_reads_may_be_gone(backend, memory):
    """Of a weight or of a part of the state: it was freed, or what it reads has changed."""

    class Idle(elman.Cell):
        def __init__(self) -> None:
            super().__init__(4, h=4, c=4)
            self.W, self.unread = nn.Linear(4, 4), nn.Linear(4, 4)

        def step(self, x, h, c):
            self.unread(x)
            return torch.tanh(self.W(x) + c), c * 0.5

    layer = elman.Recurrent(Idle(), backend=backend, memory=memory)
    nn.utils.parametrizations.weight_norm(layer.cell.unread)
    x = torch.randn(3, 2, 4)
    with nn.utils.parametrize.cached():  # one graph of the weight for both calls
        for create_graph in (False, True):
            h, c = torch.randn(2, 4, requires_grad=True), torch.zeros(2, 4)
            gone = h.exp()
            gone.sum().backward()
            outputs, _ = layer(x, (gone, c))
            outputs.sum().backward(create_graph=create_graph)
    assert layer.cell.W.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("backend", ["llvm", "eager"])
@pytest.mark.parametrize("T", [1, 2, 3])
def test_parts_of_the_state_change_places(backend, T):
    class Swapping(elman.Cell):
        def __init__(self) -> None:
            super().__init__(3, h=2, c=2, m=2)
            self.W = nn.Linear(3, 2)

        def step(self, x, h, c, m):
            return torch.tanh(self.W(x) + h), m, c

    cell, x = Swapping(), torch.randn(T, 2, 3)
    state = [torch.randn(2, 2, requires_grad=True) for _ in range(3)]

    def gradients(backend):
        _, last = elman.Recurrent(cell, backend=backend)(x, tuple(state))
        return torch.autograd.grad(sum((k + 2) * part.sum() for k, part in enumerate(last)), state)

    torch.testing.assert_close(gradients(backend), gradients("loop"))
