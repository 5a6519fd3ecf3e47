import pytest

CELL = '''
import torch
import elman


class Leaky(elman.Cell):
    """A leaky unit.

        h' = 0.9 h + 0.1 tanh(W x + U h)
    """

    def __init__(self, input_size, hidden_size, rate=0.1):
        super().__init__(input_size, h=hidden_size)
        self.W = torch.nn.Linear(input_size, hidden_size)
        self.U = torch.nn.Linear(hidden_size, hidden_size, bias=False)
        self.rate = rate

    def step(self, x, h):
        new = torch.tanh(self.W(x) + self.U(h))
        return (1 - self.rate) * h + self.rate * new


class Sorted(Leaky):
    """Not for kernels."""

    def step(self, x, h):
        return super().step(x, h).sort(dim=-1).values
'''


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "leaky.py"
    path.write_text(CELL)
    return path.name


def test_a_built_in_cell(elman):
    out = elman("explain", "lstm", "--hidden-size", 8, "--input-size", 3).out
    for line in (
        "c' = f * c + i * g",  # the author's equation
        "LSTM    I = 3, H = 8",
        "d_a_i = d_i * i * (1 - i)",  # its gradient
        "x_gates: one product [T*B, I] @ [I, 4H]",
        "h @ weight_hh.T: waits for h of step t-1",
        "d_gates = cat(d_a_i, d_a_f, d_a_g, d_a_o)",
        "d_h = d_gates @ weight_hh",
        "d_weight_hh = sum over t, b of d_gates (x) h",
        "kept for the backward loop: 40 values per step and sequence",
        "on llvm, float32, cpu",
        "160 bytes per step and sequence kept",
    ):
        assert line in out
    assert "lstm.py:" in out and "define" not in out


def test_without_the_gradient(elman):
    out = elman("explain", "gru", "--no-backward", "--hidden-size", 8).out
    assert "h' = z * h + (1 - z) * n" in out and "d_h" not in out and "kept" not in out


def test_a_cell_of_one_s_own_with_its_options(elman, own):
    out = elman("explain", f"{own}:Leaky", "--cell-option", "rate=0.25").out
    assert "Leaky: A leaky unit." in out and "h' = 0.9 h + 0.1 tanh(W x + U h)" in out
    assert "new = tanh(h @ U.weight.T + x_new)" in out and "leaky.py:" in out
    assert "h' = 0.75 * h + 0.25 * new" in out


def test_the_source_is_that_of_the_loops(elman):
    small = ("--hidden-size", 4, "--input-size", 3)
    out = elman("explain", "mgu", "--source", *small).out
    assert "; the loop 'training'" in out and "; the loop 'backward'" in out
    assert out.count("define ") >= 2 and "'inference'" not in out
    out = elman("explain", "mgu", "--source", "--no-backward", *small).out
    assert "; the loop 'inference'" in out and "'backward'" not in out


def test_float64_keeps_twice_as_much(elman):
    out = elman("explain", "lstm", "--hidden-size", 8, "--dtype", "float64").out
    assert "320 bytes per step and sequence kept" in out and "on llvm, float64, cpu" in out


def test_what_is_not_compiled_says_why(elman, own):
    done = elman("explain", f"{own}:Sorted")
    assert done.code == 0
    assert "on loop, float32, cpu" in done.out and "leaky.py:" in done.out
    assert "one call of step a time step" in done.out
    assert elman("explain", f"{own}:Sorted", "--backend", "llvm").code == 1
    done = elman("explain", f"{own}:Sorted", "--source")
    assert done.code == 2 and "no generated code" in done.err


def test_another_backend_says_so(elman):
    out = elman("explain", "mgu", "--backend", "eager", "--hidden-size", 4).out
    assert "not on the fastest backend: the eager backend was asked for" in out


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["lstmm"], "did you mean 'lstm'?"),
        (["lstm", "--cell-option", "depth=3"], "lstm cannot be built as LSTM(64, 128, depth=3)"),
        (["lstm", "--dtype", "float16"], "valid are float32, float64"),
        (["lstm", "--backend", "cuda"], "unknown backend 'cuda'"),
        (["lstm", "--batch-size", 0], "--batch-size"),
        (["lstm", "--hidden-size", 0], "hidden_size"),
        (["none.py:Cell"], "there is no file none.py"),
    ],
)
def test_wrong_usage_is_told(elman, wrong, message):
    done = elman("explain", *wrong)
    assert done.code == 2 and message in done.err


def test_the_help_has_examples(elman):
    done = elman("explain", "--help")
    assert done.code == 0
    for example in ("elman explain lstm", "elman explain mine.py:MyCell --no-backward"):
        assert example in done.out
