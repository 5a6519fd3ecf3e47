import functools
import types

import pytest
import torch
from torch import nn

import elman
from elman.cells import CELLS
from elman.cells.checking import require_pure
from elman.errors import PurityError
from tests.support import assert_close


def cell_of(step):
    class Odd(elman.Cell):
        def __init__(self):
            super().__init__(3, h=4)
            self.W = nn.Linear(3, 4)
            self.norm = nn.BatchNorm1d(4)

    Odd.step = step
    return Odd()


def in_place(self, x, h):
    h = h + 1
    h += self.W(x)
    return h


def by_index(self, x, h):
    h = h.clone()
    h[..., 0] = 1
    return h


def branch(self, x, h):
    if h.sum() > 0:
        return h
    return self.W(x)


def item(self, x, h):
    return h + self.W(x).mean().item()


def numbers(self, x, h):
    return h + self.W(x) * self.W.bias.tolist()[0]


def noise(self, x, h):
    return h + torch.randn_like(h)


def dropout(self, x, h):
    return h + nn.functional.dropout(self.W(x), 0.5)


def into(self, x, h):
    h = h + 1
    return torch.add(h, self.W(x), out=h)


def activation_in_place(self, x, h):
    h = h + self.W(x)
    return nn.functional.relu(h, inplace=True)


def view_in_place(self, x, h):
    h = h + self.W(x)
    h.view(-1).mul_(2)
    return h


def statistics(self, x, h):
    return self.norm(h.expand(4, 4))[:1] + self.W(x)


@pytest.mark.parametrize(
    ("step", "line", "message"),
    [
        (in_place, 2, "writes in place"),
        (by_index, 2, "writes in place"),
        (into, 2, "writes in place"),
        (activation_in_place, 2, "writes in place"),
        (view_in_place, 2, "writes in place"),
        (branch, 1, "branches on the value"),
        (item, 1, "branches on the value of a tensor, or takes it out"),
        (numbers, 1, "takes numbers out of torch"),
        (noise, 1, "draws random numbers"),
        (dropout, 1, "draws random numbers.*state_dropout"),
        (statistics, 1, "writes in place"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_step_that_is_not_pure_is_refused_by_its_line(step, line, message):
    where = step.__code__.co_firstlineno + line
    with pytest.raises(PurityError, match=rf"test_purity.py:{where} step: {message}"):
        elman.Recurrent(cell_of(step))


@pytest.mark.parametrize("name", CELLS)
def test_every_built_in_cell_is_pure(name):
    require_pure(CELLS[name](3, 4))


def test_what_people_write_in_steps_is_pure():
    def step(self, x, h):
        a = torch.einsum("...h,h->...h", h, self.W.bias)
        b = nn.functional.normalize(h, dim=-1) + nn.functional.layer_norm(h, (4,))
        c = torch.cat((a[..., :2], b[..., 2:]), -1).softmax(-1).clamp(0, 1)
        d = torch.where(c > 0.5, c, torch.zeros_like(c)) + torch.stack((c, c)).mean(0)
        d = nn.functional.rms_norm(d, (4,)) + torch.rms_norm(d, (4,), self.W.bias)
        e = nn.functional.gelu(d) + nn.functional.softplus(d) + nn.functional.hardtanh(d)
        return e + self.W(x) @ torch.eye(4) + torch.full((4,), 0.1)

    require_pure(cell_of(step))


# ------------------------------------------------------------------ what a step may keep


class Keeping(elman.Cell):
    """h' = tanh(W x + S h), with S = U + U^T; what it keeps between two steps is the test's."""

    def __init__(self, keep) -> None:
        super().__init__(3, h=4)
        self.W, self.U = nn.Linear(3, 4), nn.Parameter(torch.randn(4, 4) / 3)
        self.keep, self.on = keep, True
        self.table, self.log, self.last = {}, [], [None]
        self.options, self.count, self.aux = types.SimpleNamespace(S=None), 0, torch.zeros(())

    @functools.cached_property
    def made_once(self):
        return self.U + self.U.t()

    def step(self, x, h):
        S = self.keep(self, x, h) if self.on else self.U + self.U.t()
        return torch.tanh(self.W(x) + nn.functional.linear(h, S))


def in_a_dict(cell, x, h):
    if "S" not in cell.table:
        cell.table["S"] = cell.U + cell.U.t()
    return cell.table["S"]


def in_an_object(cell, x, h):
    if cell.options.S is None:
        cell.options.S = cell.U + cell.U.t()
    return cell.options.S


def in_a_list(cell, x, h):
    before, cell.last[0] = cell.last[0], x
    return (cell.U + cell.U.t()) * (1 if before is None or before.shape != x.shape else 2)


def in_an_attribute(cell, x, h):
    cell.aux = h.square().sum(-1)
    return cell.U + cell.U.t()


def in_a_log(cell, x, h):
    cell.log.append(1)
    return (cell.U + cell.U.t()) / len(cell.log)


def in_a_count(cell, x, h):
    cell.count += 1
    return (cell.U + cell.U.t()) / cell.count


KEEPS = {
    in_a_dict: r"self.table\['S'\] to a tensor",
    in_an_object: "self.options.S to a tensor",
    in_a_list: "self.last.* to a tensor",
    in_an_attribute: "self.aux to a tensor",
    in_a_log: "self.log to something else each time",
    in_a_count: "self.count to something else each time",
}


@pytest.mark.parametrize("keep", KEEPS, ids=lambda keep: keep.__name__)
def test_a_step_that_keeps_something_is_refused(keep):
    for backend in ("auto", "loop"):
        with pytest.raises(PurityError, match=f"sets {KEEPS[keep]}"):
            elman.Recurrent(Keeping(keep), backend=backend)


@pytest.mark.parametrize("keep", KEEPS, ids=lambda keep: keep.__name__)
def test_a_step_that_comes_to_keep_something_is_refused(keep):
    cell = Keeping(keep)
    cell.on = False
    layer, x = elman.Recurrent(cell), torch.randn(5, 2, 3)
    layer(x)
    cell.on = True
    with pytest.raises(PurityError, match=f"sets .*{KEEPS[keep].split()[-1]}"):
        layer(x)


def constant_once(cell, x, h):
    if "scale" not in cell.table:
        cell.table["scale"] = 0.5
    cell.count = 3
    return (cell.U + cell.U.t()) * cell.table["scale"]


@pytest.mark.parametrize("keep", [constant_once, lambda cell, x, h: cell.made_once])
def test_what_a_step_makes_once_is_compiled(keep):
    layer, x = elman.Recurrent(Keeping(keep)), torch.randn(5, 2, 3)
    loop = elman.Recurrent(layer.cell, backend="loop")
    assert layer.plan().backend == "llvm"
    for _ in range(2):
        both = [torch.autograd.grad(each(x)[0].sum(), layer.cell.U)[0] for each in (layer, loop)]
        assert_close(*both)
        with torch.no_grad():
            layer.cell.U.mul_(0.5)
