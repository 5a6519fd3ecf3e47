import re

import pytest
import torch
from torch.nn import functional as F

import elman
from elman.cells import CELLS, LSTM, MGU, MinLSTM
from elman.compiler.ir.nodes import walk
from elman.compiler.pipeline import compile_cell
from elman.compiler.plan import Zoneout
from elman.compiler.printing.report import explain, step_text


@pytest.mark.parametrize("name", ["lstm", "gru", "mgu", "layer-norm-lstm"])
def test_the_pages_of_the_classic_cells(name, golden):
    golden(name, _without_lines(str(explain(compile_cell(CELLS[name](3, 4))))))


def _without_lines(text):
    """A cell's own file may grow above its step."""
    return re.sub(r"(\w+\.py):\d+", r"\1", text)


def test_the_backward_step_is_the_textbook_s():
    lines = "\n".join(explain(compile_cell(LSTM(3, 4))).backward)
    for equation in (
        "d_c' += d_h' * o * (1 - tanh(c')^2)",
        "d_i = d_c' * g ",
        "d_a_i = d_i * i * (1 - i)",
        "d_gates = cat(d_a_i, d_a_f, d_a_g, d_a_o)",
        "d_h = d_gates @ weight_hh ",
        "d_c = d_c' * f ",
    ):
        assert equation in lines
    assert 6 <= len(lines.splitlines()) <= 15


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("rate", [None, True, 0.1])
def test_every_equation_computes_what_the_plan_does(name, rate):
    """Each line is run as Python, from the values above it: results and gradients are torch's."""
    torch.manual_seed(0)
    cell = CELLS[name](3, 4).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.normal_(std=0.5)
    zoneout = Zoneout((rate,) * len(cell.state_sizes)) if rate else Zoneout()
    plan = compile_cell(cell, zoneout=zoneout)
    page = explain(plan)
    values = _leaves(cell, plan)
    _run((*page.before, *page.step), values)
    olds = [values[s] for s in cell.state_sizes]
    news = [values[f"{s}_new"] for s in cell.state_sizes]
    expected = cell.step(values["x"], *olds)
    if rate is None:
        for new, right in zip(news, _tuple(expected), strict=True):
            torch.testing.assert_close(new.expand_as(right), right)
    come = [torch.randn(5, s.size, dtype=torch.float64) for s in plan.states]
    grads = torch.autograd.grad(news, olds, come, allow_unused=True, materialize_grads=True)
    with torch.no_grad():
        values |= {f"d_{s}_new": d for s, d in zip(cell.state_sizes, come, strict=True)}
        _run(page.backward, values)
    for state, right in zip(cell.state_sizes, grads, strict=True):
        found = torch.as_tensor(values[f"d_{state}"], dtype=torch.float64)
        torch.testing.assert_close(found.expand_as(right), right)


def _tuple(state):
    return state if isinstance(state, tuple) else (state,)


def _leaves(cell, plan):
    values = {n: p.detach().requires_grad_() for n, p in cell.named_parameters()}
    for node in (plan.step.x, *plan.states):
        value = torch.randn(5, node.size, dtype=torch.float64)
        values[node.attrs["name"]] = value.requires_grad_()
    for keep in plan.zoneout_masks:
        if keep is not None:
            values[keep.attrs["name"]] = (torch.rand(5, keep.size) < 0.5).double()
    return values


def _run(lines, values):
    functions = {
        name: getattr(torch, name)
        for name in ("sigmoid", "tanh", "exp", "log", "log1p", "abs", "sqrt", "rsqrt", "sign")
    }
    functions |= {
        "relu": F.relu,
        "softplus": F.softplus,
        "mean": lambda a: a.mean(-1, keepdim=True),
        "sum": lambda a: a.sum(-1, keepdim=True),
        "cat": lambda *parts: torch.cat(
            [p if torch.is_tensor(p) else torch.full((5, 4), p).double() for p in parts], -1
        ),
        "minimum": lambda a, b: torch.minimum(a, _like(b, a)),
        "maximum": lambda a, b: torch.maximum(a, _like(b, a)),
        "where": torch.where,
        "split": torch.split,
        "unbind": torch.unbind,
    }
    for line in lines:
        equation = line.split("#")[0].strip()
        if " = " not in equation and " += " not in equation:
            continue  # a remark
        exec(_python(equation), {"__builtins__": {}}, _Names(functions | values, values))


class _Names(dict):
    """What a line assigns is kept for the next."""

    def __init__(self, known, values):
        super().__init__(known)
        self.values_ = values

    def __setitem__(self, name, value):
        self.values_[name] = value


def _like(value, other):
    return torch.as_tensor(value, dtype=other.dtype)


def _python(equation):
    """h' is h_new, a^2 is a**2, a[0:4] is of the last axis, and i, f = gates are equal parts."""
    equation = equation.replace("'", "_new").replace("^", "**")
    left, sign, right = re.match(r"(.*?) (\+?=) (.*)", equation).groups()
    right = re.sub(r"\[(\d+):(\d+)\]", r"[..., \1:\2]", right)
    if ", " in left:
        right = f"({right}).chunk({left.count(',') + 1}, -1)"
    return f"{left} {sign} {right}"


def test_what_stays_in_the_loop_says_what_it_waits_for():
    first, second = explain(compile_cell(MGU(3, 4))).in_loop
    assert first.startswith("h @ U_f.T: waits for h of step t-1 ")
    assert second.startswith("(f * h) @ U_n.T: waits for h of step t-1, and for h @ U_f.T ")
    assert explain(compile_cell(MinLSTM(3, 4))).in_loop == ()


def test_a_product_is_computed_once_for_all_that_use_it():
    (line,) = explain(compile_cell(MinLSTM(3, 4))).hoisted
    assert line.endswith(": one product [T*B, I] @ [I, 3H]") and line.count(",") >= 2


def test_the_bytes_are_those_of_the_plan():
    plan = compile_cell(LSTM(3, 4))
    page = explain(plan)
    assert page.numbers_per_row == 5 * 4 == plan.bytes_per_row(4) // 4
    assert len(page.saved) == 5


def test_a_page_without_the_gradient():
    text = explain(compile_cell(LSTM(3, 4))).text(backward=False)
    assert "h' = o * tanh(c')" in text and "d_" not in text


@pytest.mark.parametrize("name", CELLS)
def test_names_are_unique_and_each_step_prints(name):
    plan = compile_cell(CELLS[name](3, 4))
    text = step_text(plan.step)
    names = [line.split(" = ")[0] for line in text.splitlines()]
    assert len(set(names)) == len(names)
    for state in plan.states:
        assert any(f"{state.attrs['name']}'" in name for name in names)


def test_equal_names_of_different_values_are_told_apart():
    class Twice(elman.Cell):
        def __init__(self):
            super().__init__(3, h=3)

        def step(self, x, h):
            def half(a):
                part = a * 0.5
                return part.tanh()

            return half(half(x + h))

    text = step_text(compile_cell(Twice()).step)
    assert "part = 0.5 * a " in text and "part1 = 0.5 * " in text


def test_no_value_is_computed_twice_on_the_page():
    """A product that two lines use has a line of its own."""
    for name in CELLS:
        plan = compile_cell(CELLS[name](3, 4))
        page = explain(plan)
        products = sum(n.op == "linear" for n in walk(plan.outputs) if n.varies > 1)
        assert sum(line.count(" @ ") for line in page.step) == products
