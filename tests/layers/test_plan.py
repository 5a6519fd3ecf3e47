"""`layer.plan()` says what runs, and why not something faster."""

import warnings

import pytest
import torch

import elman
from elman.cells import GRU, LSTM, MGU
from elman.errors import BackendError
from elman.layers import PlanReport


class Sorted(elman.Cell):
    """h' = sort(x + h)"""

    def __init__(self, size=3):
        super().__init__(size, h=size)
        self.weight = torch.nn.Parameter(torch.ones(size))

    def step(self, x, h):
        return (x + h * self.weight).sort(dim=-1).values


def test_a_compiled_layer_needs_no_excuse():
    report = elman.Recurrent(LSTM(3, 4)).float().plan()
    (cell,) = report.cells
    assert (report.backend, report.reason) == ("llvm", "")
    assert (cell.cell, cell.dtype, cell.device.type) == ("LSTM", torch.float32, "cpu")
    assert cell.training and cell.place == ""
    assert cell.hoisted == ("x_gates: one product [T*B, I] @ [I, 4H]",)
    (product,) = cell.in_loop
    assert product.startswith("h @ weight_hh.T: waits for h of step t-1")
    assert [line.split()[0] for line in cell.saved] == [*("o", "g", "i", "f", "c")]
    assert report.bytes_per_step == 5 * 4 * 4
    assert cell.recomputed[0].startswith("tanh(c')")
    assert repr(report) == str(report)
    for word in (
        "LSTM on llvm, float32, cpu, training",
        "80 bytes per step and sequence",
        "threads: ",
    ):
        assert word in str(report)


def test_inference_keeps_nothing():
    layer = elman.Recurrent(LSTM(3, 4)).float().eval()
    (cell,) = layer.plan().cells
    assert not cell.training and cell.saved == cell.recomputed == () and cell.bytes_per_step == 0
    assert "kept" not in str(layer.plan()) and "inference" in str(layer.plan())
    assert layer.plan(training=True).bytes_per_step == 80


def test_bytes_follow_the_dtype():
    assert elman.Recurrent(LSTM(3, 4)).double().plan().bytes_per_step == 160


@pytest.mark.parametrize(
    ("layer", "backend", "reason"),
    [
        (elman.Recurrent(MGU(3, 4), backend="eager"), "eager", "eager backend was asked for"),
        (elman.Recurrent(MGU(3, 4), backend="loop"), "loop", "literal loop was asked for"),
        (elman.Recurrent(MGU(3, 4)).bfloat16(), "eager", "no kernels for torch.bfloat16"),
        (elman.GRU(3, 4, device="meta"), "loop", "is on meta, where there are no numbers"),
        (elman.Recurrent(Sorted()), "loop", "test_plan.py:"),
    ],
)
def test_what_is_not_the_fastest_says_why(layer, backend, reason):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = layer.plan()
    assert report.backend == backend and reason in report.reason
    assert reason in str(report) and "why not the fastest" in str(report)


def test_the_report_is_of_what_runs(monkeypatch):
    monkeypatch.setenv("ELMAN_BACKEND", "loop")
    assert elman.Recurrent(MGU(3, 4)).plan().backend == "loop"
    assert elman.Recurrent(MGU(3, 4)).plan().cells[0].page is None


def test_a_backend_that_cannot_run_it_is_an_error():
    with pytest.raises(BackendError, match="Sorted"):
        elman.Recurrent(Sorted(), backend="llvm").plan()


def test_noise_is_a_part_of_the_plan():
    layer = elman.Recurrent(LSTM(3, 4), state_dropout=0.5, zoneout={"c": 0.1})
    step = "\n".join(layer.plan().cells[0].page.step)
    assert "(h * mask) @ weight_hh.T" in step and "c' = where(keep_c != 0, c, " in step
    step = "\n".join(layer.eval().plan().cells[0].page.step)
    assert "mask" not in step and "0.1 * " in step


def test_a_plan_draws_no_random_numbers():
    layer = elman.Recurrent(LSTM(3, 4), state_dropout=0.5, zoneout=0.5)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    layer.plan()
    assert torch.equal(torch.rand(1), expected)


def test_layers_of_layers_name_their_places():
    deep = elman.Stack([GRU(3, 4), elman.Bidirectional(MGU(4, 4), Sorted(4))], dropout=0.1)
    report = deep.plan()
    assert isinstance(report, PlanReport)
    assert [(cell.place, cell.cell, cell.backend) for cell in report.cells] == [
        ("layers.0", "GRU", "llvm"),
        ("layers.1.forward_layer", "MGU", "llvm"),
        ("layers.1.backward_layer", "Sorted", "loop"),
    ]
    assert report.backend == "llvm, loop" and "sort" in report.reason
    assert report.bytes_per_step == sum(cell.bytes_per_step for cell in report.cells)
    assert "layers.1.backward_layer: Sorted on loop" in str(report)


def test_torch_like_layers_name_their_rows():
    report = elman.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2).plan()
    assert [cell.place for cell in report.cells] == ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert {cell.cell for cell in report.cells} == {"ProjectedLSTM"}
    second = report.cells[2].hoisted[0]
    assert "[T*B, I] @ [I, 16]" in second


def test_the_batch_size_decides_how_threads_share(monkeypatch):
    from elman.backends.cpu.threads import openmp

    monkeypatch.setattr(openmp, "max_threads", lambda: 2)
    layer = elman.Recurrent(LSTM(8, 64)).eval()
    alone, many = (layer.plan(batch_size=b).cells[0].threads for b in (1, 64))
    assert "at batch size 1" in alone
    assert many == "2 at batch size 64, each with rows of its own"
