"""`elman.testing`: it passes what is right, and names what is wrong."""

import os
from dataclasses import replace

import pytest
import torch
from torch import nn

import elman
from elman.backends.cpu.engine import LLVM
from elman.backends.reference.eager import Eager
from elman.cells import CELLS, GRU, MGU
from elman.compiler.passes import derivatives
from elman.errors import CheckError, OptionError, PurityError
from elman.runtime.launch import Launch
from elman.testing import assert_close, check_cell, fuzz

SMALL = {"steps": (1, 9), "batches": (1, 3), "dtypes": (torch.float64,)}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Leaky(elman.Cell):
    """h' = 0.9 h + 0.1 tanh(W x + U h)"""

    def __init__(self, input_size=3, hidden_size=4):
        super().__init__(input_size, h=hidden_size)
        self.W = nn.Linear(input_size, hidden_size)
        self.U = nn.Linear(hidden_size, hidden_size, bias=False)

    def step(self, x, h):
        return 0.9 * h + 0.1 * torch.tanh(self.W(x) + self.U(self.drop_state(h)))


def test_a_right_cell_is_reported():
    report = check_cell(Leaky(), steps=(1, 2, 63), batches=(1, 3, 17))
    assert set(report.compared) == {"eager", "llvm"} and not report.skipped
    # 9 shapes, plain and with everything, 5 other variants of one; 7 results; 2 dtypes;
    # 3 variants of one shape with 5 gradients of second order
    assert report.compared["llvm"] == (9 * 2 + 5) * 7 * 2 + 3 * (7 + 5)
    assert 0 < report.error < 1e-9
    assert report.plan.backend == "llvm"
    text = str(report)
    assert "Leaky" in text and "h @ U.weight.T: waits for h of step t-1" in text


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_of_elman_passes(name):
    check_cell(CELLS[name](3, 4, init="torch"), steps=(7,), batches=(3,), dtypes=(torch.float64,))


def test_the_cell_stays_as_it_is():
    cell = Leaky()
    before = {name: p.clone() for name, p in cell.named_parameters()}
    check_cell(cell, **SMALL)
    for name, p in cell.named_parameters():
        assert p.dtype is torch.float32 and p.grad is None and torch.equal(p, before[name])
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_wrong_derivative_is_found_in_the_plan(monkeypatch):
    right = derivatives.DERIVATIVES["tanh"]
    wrong = lambda b, d, y, x: (b("mul", right(b, d, y, x)[0], 1.001),)  # noqa: E731
    monkeypatch.setitem(derivatives.DERIVATIVES, "tanh", wrong)
    with pytest.raises(CheckError) as error:
        check_cell(Leaky(), **SMALL)
    message = str(error.value)
    assert "Leaky on eager, T=9, B=3, plain, float64: d_" in message
    assert "the plan is wrong" in message


class Twice(elman.Cell):
    """a = tanh(W x), h' = a h + exp(a): what enters the loop reaches the new state on two ways."""

    def __init__(self):
        super().__init__(3, h=4)
        self.W = nn.Linear(3, 4)

    def step(self, x, h):
        a = torch.tanh(self.W(x))
        return a * h + torch.exp(a)


@pytest.mark.parametrize("order", ["d_x", "second order, d_x"])
def test_gradients_as_graphs_are_those_of_the_loop(order, monkeypatch):
    check_cell(Twice(), **SMALL)
    double_backward = Launch.double_backward

    def wrong(self, inputs, saved, d_results):
        gradients = double_backward(self, inputs, saved, d_results)
        d_x, *rest = gradients.rows
        # of first order, or only where it is differentiated again
        off = d_x if order == "d_x" else d_x - d_x.detach()
        return replace(gradients, rows=(d_x + 1e-3 * off, *rest))

    monkeypatch.setattr(Launch, "double_backward", wrong)
    with pytest.raises(CheckError, match=rf"Twice on eager, T=3, B=2, plain, float64: {order} "):
        check_cell(Twice(), **SMALL)


@pytest.mark.parametrize("variant", ["plain", "reverse", "lengths"])
def test_a_broken_kernel_is_found_with_its_place(monkeypatch, variant):
    run = LLVM.forward

    def broken(self, *runs):
        run(self, *runs)
        for _, buffers in runs:
            if buffers.layout.rows > 5:
                buffers.states[0][5, 2] += 0.25

    monkeypatch.setattr(LLVM, "forward", broken)
    check_cell(Leaky(), steps=[9], batches=[3], backends=["eager"], variants=[variant])
    with pytest.raises(CheckError, match="on llvm, T=9, B=3") as error:
        check_cell(Leaky(), steps=[9], batches=[3], variants=[variant], seed=2)
    message = str(error.value)
    if variant == "plain":
        assert "h (t, b, unit) is 0." in message
    again = message.partition("To see it again: ")[2]
    with pytest.raises(CheckError) as second:
        eval(again, {"elman": elman_with_testing(), "torch": torch, "cell": fixed_leaky()})
    assert again in str(second.value)


def elman_with_testing():
    import elman.testing

    return elman


def fixed_leaky():
    torch.manual_seed(0)
    return Leaky()


def test_a_number_that_is_never_written_is_found(monkeypatch):
    """Memory is poisoned: a backend that forgets to write cannot be right by luck."""

    def lazy(self, *runs):
        pass

    monkeypatch.setattr(Eager, "forward", lazy)
    with pytest.raises(CheckError, match=r"h \(t, b, unit\) is nan at \(0, 0, 0\)"):
        check_cell(Leaky(), **SMALL)


def test_a_gradient_that_is_not_that_of_the_values_is_found():
    class Detached(Leaky):
        def step(self, x, h):
            return super().step(x, h) + 0.5 * h.detach()

    with pytest.raises(CheckError, match="Detached: torch's gradient of the literal loop"):
        check_cell(Detached(), **SMALL)


def test_a_step_in_float32_is_found():
    class Narrow(Leaky):
        def step(self, x, h):
            return super().step(x, h).float().to(x.dtype)

    with pytest.raises(CheckError, match="or in float32"):
        check_cell(Narrow(), **SMALL)


def test_what_cannot_be_compiled_is_skipped_and_said():
    class Sorted(Leaky):
        def step(self, x, h):
            return super().step(x, h).sort(dim=-1).values

    report = check_cell(Sorted(), **SMALL)
    assert not report.compared and set(report.skipped) == {"eager", "llvm"}
    assert "llvm: skipped" in str(report) and "test_testing.py" in str(report)


def test_a_step_that_is_not_pure_is_refused():
    class Noisy(Leaky):
        def step(self, x, h):
            return super().step(x, h) + torch.randn_like(h)

    with pytest.raises(PurityError):
        check_cell(Noisy())


@pytest.mark.parametrize(
    "wrong",
    [{"variants": ["plane"]}, {"backends": ["cuda"]}, {"steps": [0]}, {"batches": [-1]}],
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(OptionError):
        check_cell(Leaky(), **wrong)


def test_cells_with_several_products_and_noise_pass():
    check_cell(GRU(3, 5, reset_after=False), **SMALL)
    check_cell(MGU(5, 3), **SMALL)


# ------------------------------------------------------------------ assert_close


def test_close_is_close():
    x = torch.tensor([1.0, float("nan"), float("inf")], dtype=torch.float64)
    assert_close((x, {"a": x}), (x.clone(), {"a": x + 1e-13}))
    assert_close(x.float(), x.float() * (1 + 1e-6))
    assert_close(torch.ones(2), torch.ones(2) + 0.05, tolerance=0.1)


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 3) + torch.eye(3)[:2], r"tensor is 0 at \(0, 0\), exp"),
        (
            (torch.zeros(2), torch.zeros(2)),
            (torch.zeros(2), torch.ones(2)),
            r"tensor\[1\] is 0 at \(0,",
        ),
        (torch.zeros(2), torch.full((2,), torch.nan), "expected nan"),
        (torch.full((2,), torch.nan), torch.zeros(2), "is nan at .*, expected 0"),
        (torch.zeros(2), torch.zeros(3), r"is torch.float32 \[2\], not torch.float32 \[3\]"),
        (torch.zeros(2), torch.zeros(2).double(), r"not torch.float64 \[2\]"),
        ((torch.zeros(2),), (torch.zeros(2),) * 2, "1 values, not 2"),
        ({"a": torch.zeros(1)}, {"b": torch.zeros(1)}, "keys are"),
        (torch.zeros(1), (torch.zeros(1),), "is a Tensor, expected a tuple"),
    ],
)
def test_what_is_not_close_is_named(actual, expected, message):
    with pytest.raises(CheckError, match=message):
        assert_close(actual, expected)


# ------------------------------------------------------------------ random programs


def test_a_program_is_data_that_gives_itself_again():
    made = [fuzz.program(7, number) for number in range(12)]
    assert made == [fuzz.program(7, number) for number in range(12)]
    assert [eval(repr(one), vars(fuzz)) for one in made] == made
    assert "class Drawn" in "".join(one.listing() for one in made)


CALL = fuzz.Act("call", (("T", 3), ("B", 2)))
PLANTED = fuzz.Program(
    fuzz.Deep((fuzz.Lifted(fuzz.Zoo("gru", 3, 4)), fuzz.Lifted(fuzz.Zoo("mgu", 4, 2)))),
    "llvm",
    "float64",
    0,
    (CALL, fuzz.Act("negate", (("r", 0),)), CALL, fuzz.Act("train", (("r", 0),)), CALL),
)


def test_a_right_program_passes():
    assert fuzz.check(PLANTED).compared > 20


def test_a_planted_fault_is_found_and_its_program_shrunk(monkeypatch):
    run = LLVM.forward

    def broken(self, *runs):
        run(self, *runs)
        for _, buffers in runs:
            buffers.states[0][-1, 0] += 1e-6

    monkeypatch.setattr(LLVM, "forward", broken)
    with pytest.raises(CheckError, match=r"act 0 \(call\), result 0: .* expected"):
        fuzz.check(PLANTED)
    text = fuzz.script(PLANTED)
    again = eval(text.rpartition("check(")[2].removesuffix(")"), vars(fuzz))
    assert len(again.acts) == 1 and again.acts[0].name == "call"
    assert isinstance(again.spec, fuzz.Lifted)
    with pytest.raises(CheckError):
        exec(text, {})


def test_a_program_that_ends_its_process_is_named(monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, elman.testing.fuzz.compare as compare\n"
        "judge = compare.judge\n"
        "compare.judge = lambda p: os.abort() if p.numbers == WANTED else judge(p)\n".replace(
            "WANTED", str(fuzz.program(1, 0).numbers)
        )
    )
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    monkeypatch.setenv("PYTHONPATH", path)
    report = fuzz.fuzz(seed=1, programs=2)
    [crash] = [f for f in report.failures if "SIGABRT" in f.text]
    assert crash.number == 0 and report.programs == 1


def test_two_thousand_programs_are_as_the_loop():
    """`elman doctor --programs 2000`: what differs is printed as a script by that command."""
    report = fuzz.fuzz(seed=0, programs=2000)
    assert not report.failures, str(report)
    assert report.programs == 2000 and report.verdicts["same"] > 1400 and report.compared > 40_000
