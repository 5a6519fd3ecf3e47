"""ELMAN_CHECK=1 compares each run with the eager backend, and says where it differs."""

import pytest
import torch

import elman
from elman.backends.cpu.engine import LLVM
from elman.backends.reference.compare import Checked, checked
from elman.backends.reference.tolerance import difference, largest
from elman.cells import LSTM, MGU
from elman.errors import CheckError
from elman.runtime import dispatch


@pytest.fixture
def compared(monkeypatch):
    """Every run on the kernels is compared."""
    monkeypatch.setitem(dispatch.ENGINES, "llvm", Checked(LLVM(), "llvm"))
    torch.manual_seed(0)


def test_only_who_asks_is_checked(monkeypatch):
    engine = LLVM()
    assert checked(engine) is engine
    monkeypatch.setenv("ELMAN_CHECK", "1")
    assert isinstance(checked(engine), Checked) and checked(engine).name == "llvm"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reverse", [False, True])
def test_right_runs_pass(compared, dtype, reverse):
    layer = elman.Recurrent(LSTM(3, 5), reverse=reverse, zoneout=0.1, state_dropout=0.2).to(dtype)
    x = torch.randn(9, 4, 3, dtype=dtype, requires_grad=True)
    reset = torch.rand(9, 4) < 0.2
    for options in ({}, {"lengths": [9, 0, 4, 2], "reset": reset, "truncate": 3}):
        outputs, state = layer(x, **options)
        (outputs.sum() + state[1].sum()).backward()
    with torch.no_grad():
        layer.eval()(x)
    assert layer.plan().cells[0].threads


def test_a_wrong_state_is_named(compared, monkeypatch):
    run = LLVM.forward

    def broken(self, *runs):
        run(self, *runs)
        [(_, buffers)] = runs
        buffers.states[0][7, 1] += 1

    monkeypatch.setattr(LLVM, "forward", broken)
    x = torch.randn(6, 3, 3, requires_grad=True)
    with pytest.raises(CheckError, match=r"MGU on llvm: state h at \(t, b, h\) = \(2, 1, 1\) is "):
        elman.Recurrent(MGU(3, 4))(x)
    # rows are sorted by length, and the place is that of the batch as it came in
    with pytest.raises(CheckError, match=r"\(t, b, h\) = \(2, 2, 1\) is "):
        elman.Recurrent(MGU(3, 4))(x, lengths=[2, 6, 5])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda back: back.d_last_state[0][1, 2].add_(1), r"d_h at \(b, h\) = \(1, 2\)"),
        (lambda back: back.stored[0][4, 3].add_(1), r"stored 0 .* at \(t, b, h\) = \(1, 1, 3\)"),
        (lambda back: back.stored[0][4, 3].fill_(torch.nan), "is nan"),
    ],
)
def test_a_wrong_gradient_is_named(compared, monkeypatch, spoil, message):
    run = LLVM.backward

    def broken(self, *runs):
        run(self, *runs)
        [(*_, back)] = runs
        spoil(back)

    monkeypatch.setattr(LLVM, "backward", broken)
    outputs, _ = elman.Recurrent(MGU(3, 4))(torch.randn(6, 3, 3))
    with pytest.raises(CheckError, match=message):
        outputs.sum().backward()


def test_the_first_difference():
    right = torch.tensor([[1.0, 100.0], [torch.nan, torch.inf]])
    assert largest(right) == 100.0 and largest(torch.zeros(2)) == 1.0

    def at(found, expected=right):
        wrong = difference(found, expected, 0.1)
        return wrong and wrong.at

    assert at(right.clone()) is None
    assert at(right + torch.tensor([[0.05, 0], [0, 0]])) is None
    assert at(right + torch.tensor([[0, 0.2], [0, 0]])) == (0, 1)
    assert at(right.nan_to_num(0.0)) == (1, 0)
    assert at(torch.zeros(2, 2), torch.tensor([[0.0, torch.inf], [0, 0]])) == (0, 1)
    assert at(torch.zeros(0), torch.zeros(0)) is None
    assert str(difference(right + 1, right, 0.1)).startswith("2 at (0, 0), expected 1; 2 of 4")
