import pytest
import torch
from torch import nn

import elman
from elman.cells import CELLS
from elman.cells.checking import require_pure
from elman.errors import PurityError


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
