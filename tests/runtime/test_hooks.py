"""Hooks of cells and of their modules do what they do in the loop."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm

import elman
from tests.backends.layers import FAST


class Nets(elman.Cell):
    """h' = tanh(W x + U h), of modules."""

    def __init__(self, size: int = 4) -> None:
        super().__init__(size, h=size)
        self.W, self.U = nn.Linear(size, size), nn.Linear(size, size, bias=False)

    def step(self, x, h):
        return torch.tanh(self.W(x) + self.U(h))


def _old(function):
    """torch tells of newer ways."""

    def apply(*args, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return function(*args, **options)

    return apply


class Half(prune.BasePruningMethod):
    """Somebody's own way to prune."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t, default_mask):
        mask = default_mask.clone()
        mask.view(-1)[::2] = 0
        return mask


REPARAMETRISED = {
    "weight_norm": _old(weight_norm),
    "weight_norm of the whole": lambda m, name: _old(weight_norm)(m, name, dim=None),
    "spectral_norm": _old(spectral_norm),
    "prune": lambda m, name: prune.l1_unstructured(m, name, amount=0.5),
    "prune one's own": Half.apply,
    "prune twice": lambda m, name: (
        prune.random_unstructured(m, name, amount=0.2),
        prune.l1_unstructured(m, name, amount=0.5),
    ),
}


def answers(cell, x, backend):
    """Outputs, and first and second gradients of every parameter."""
    cell.eval()
    wrt = [x, *cell.parameters()]
    outputs = elman.Recurrent(cell, backend=backend)(x)[0]
    first = torch.autograd.grad(outputs.square().sum(), wrt, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), wrt)
    return [outputs, *first, *second]


def assert_as_the_loop(cell, x, backend) -> None:
    for found, expected in zip(answers(cell, x, backend), answers(cell, x, "loop"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@FAST
@pytest.mark.parametrize("name", REPARAMETRISED)
@pytest.mark.parametrize("where", ["cell", "module"])
def test_a_weight_that_a_hook_computes(where, name, backend, float64) -> None:
    torch.manual_seed(0)
    cell = elman.cells.MGU(4, 4) if where == "cell" else Nets()
    x = torch.randn(3, 2, 4, requires_grad=True)
    answers(cell, x, backend)  # compiled without
    target = (cell, "weight_hh") if where == "cell" else (cell.U, "weight")
    REPARAMETRISED[name](*target)
    before = answers(cell, x, backend)[0]
    assert_as_the_loop(cell, x, backend)
    optimizer = torch.optim.SGD(cell.parameters(), lr=0.5)
    elman.Recurrent(cell, backend=backend)(x)[0].square().sum().backward()
    assert all(p.grad is not None for p in cell.parameters())
    optimizer.step()
    assert not torch.allclose(before, answers(cell, x, backend)[0])
    assert_as_the_loop(cell, x, backend)


@FAST
def test_a_hook_is_removed(backend, float64) -> None:
    cell, x = Nets(), torch.randn(3, 2, 4, requires_grad=True)
    prune.l1_unstructured(cell.U, "weight", amount=0.5)
    assert_as_the_loop(cell, x, backend)
    prune.remove(cell.U, "weight")
    with torch.no_grad():
        cell.U.weight.add_(1.0)
    assert_as_the_loop(cell, x, backend)


def test_spectral_norm_while_training_runs_the_loop() -> None:
    cell, x = Nets().train(), torch.randn(3, 2, 4)
    _old(spectral_norm)(cell.U)
    layer = elman.Recurrent(cell)
    before = cell.U.weight_u.clone()
    with pytest.warns(RuntimeWarning, match=r"parametrizations\.spectral_norm"):
        layer(x)
    assert not torch.equal(before, cell.U.weight_u)
    assert layer.eval().plan().backend == "llvm"


HOOKS = {
    "forward": lambda c, hook: c.register_forward_hook(hook),
    "before forward": lambda c, hook: c.register_forward_pre_hook(hook),
    "forward of a module": lambda c, hook: c.U.register_forward_hook(hook),
    "before forward of a module": lambda c, hook: c.U.register_forward_pre_hook(hook),
    "backward of a module": lambda c, hook: c.U.register_full_backward_hook(hook),
    "all modules": lambda c, hook: nn.modules.module.register_module_forward_hook(
        lambda module, *args: hook(*args) if getattr(module, "bias", 0) is None else None
    ),
}


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("name", HOOKS)
def test_hooks_fire_at_each_step(name) -> None:
    """As they do for one who calls the cell step by step; and they stop when they are removed."""
    cell, x, seen = Nets(), torch.randn(3, 2, 4, requires_grad=True), []
    layer = elman.Recurrent(cell)
    layer(x)

    def hook(*args):
        seen.append(len(args))

    hook.__qualname__ = name  # each is told of once
    handle = HOOKS[name](cell, hook)
    try:
        with pytest.warns(RuntimeWarning, match="hook"):
            layer(x)[0].sum().backward()
        assert len(seen) == 3
    finally:
        handle.remove()
    seen.clear()
    layer(x)[0].sum().backward()
    assert not seen and layer.plan().backend == "llvm"


def test_a_hook_that_changes_the_state() -> None:
    cell, x = Nets(), torch.randn(3, 2, 4)
    layer = elman.Recurrent(cell)
    before = layer(x)[0]
    cell.register_forward_hook(lambda module, args, new: new * 0.5)
    h, expected = torch.zeros(2, 4), []
    for each in x:
        h = cell(each, h)
        expected.append(h)
    with pytest.warns(RuntimeWarning, match="hook"):
        found = layer(x)[0]
    torch.testing.assert_close(found, torch.stack(expected))
    assert not torch.allclose(found, before)


@pytest.mark.parametrize("read", [True, False])
def test_a_weight_that_a_hook_computes_follows_the_dtype(read) -> None:
    """`to` passes over it: it is neither a parameter nor a buffer."""

    class Normed(elman.Cell):
        def __init__(self) -> None:
            super().__init__(5, h=8)
            self.U = torch.nn.utils.weight_norm(nn.Linear(8, 8))

        def step(self, x, h):
            v = self.U(h)
            return torch.tanh(v if read else h + 1)

    layer, x = elman.Recurrent(Normed().double()).float(), torch.randn(3, 2, 5)
    torch.testing.assert_close(layer(x), elman.Recurrent(layer.cell, backend="loop")(x))


@pytest.mark.parametrize("memory", ["save", "recompute", 1])
def test_hooks_run_as_often_under_a_memory_budget(memory):
    """The spectral norm's hook moves on at each step: run again for the gradients it would give
    other weights."""

    def gradients(memory):
        torch.manual_seed(0)
        layer = nn.utils.spectral_norm(nn.Linear(4, 4))

        class Normed(elman.Cell):
            def __init__(self):
                super().__init__(3, h=4)
                self.W, self.U = nn.Linear(3, 4), layer

            def step(self, x, h):
                return torch.tanh(self.W(x) + self.U(h))

        cell = elman.Recurrent(Normed(), memory=memory)
        outputs, _ = cell(torch.randn(6, 2, 3))
        grads = torch.autograd.grad(outputs.square().sum(), list(cell.parameters()))
        return [*grads, layer.weight_u.clone()]

    torch.testing.assert_close(gradients(memory), gradients("save"))
