"""Padding changes nothing, even for a step that cannot bear every value."""

import torch
from torch import nn

import elman
from tests.support import assert_close


class Logarithmic(elman.Cell):
    """h' = tanh(W log(x) + U h): a zero would be the end of every gradient."""

    def __init__(self):
        super().__init__(3, h=4)
        self.W = nn.Linear(3, 4)
        self.U = nn.Linear(4, 4)

    def step(self, x, h):
        return torch.tanh(self.W(x.log()) + self.U(h))


def test_padding_harms_no_gradient_of_a_step_that_is_not_made_for_zero():
    cell = Logarithmic()
    layer = elman.Stack([elman.Recurrent(cell)])
    x = torch.rand(5, 3, 3) + 0.5
    x[2:, 1] = 0
    x[:, 2] = -1
    x.requires_grad_()
    outputs, _ = layer(x, lengths=[5, 2, 0])
    outputs.square().sum().backward()
    found = [p.grad.clone() for p in cell.parameters()] + [x.grad[:, :2].clone()]
    assert not x.grad[2:, 1].any() and not x.grad[:, 2].any()

    cell.zero_grad()
    x.grad = None
    for row, length in ((0, 5), (1, 2)):
        layer(x[:length, row])[0].square().sum().backward()  # the gradients add up
    alone = [p.grad for p in cell.parameters()] + [x.grad[:, :2]]
    for one, two in zip(found, alone, strict=True):
        assert_close(one, two)


def test_zoneout_keeps_the_parts_of_an_slstm_together():
    torch.manual_seed(0)
    layer = elman.Recurrent(elman.cells.SLSTM(3, 8), zoneout=0.5)
    outputs, _ = layer(torch.randn(60, 4, 3) * 5)
    assert outputs.abs().max() <= 1
