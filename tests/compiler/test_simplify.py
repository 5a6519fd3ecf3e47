"""The same values in fewer operations."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from elman import cells
from elman.compiler.ir.interpret import evaluate
from elman.compiler.ir.nodes import (
    Varies,
    broadcast,
    cat,
    const,
    elementwise,
    leaf,
    linear,
    reduce,
    stop,
    take,
    walk,
    weight,
)
from elman.compiler.ir.verify import verify
from elman.compiler.passes.differentiate import differentiate
from elman.compiler.passes.simplify import simplify, simplify_step
from elman.compiler.trace.tracer import trace
from tests.compiler.support import assert_step, double

x, h = leaf("x", "x", 6), leaf("state", "h", 6)
b, c = weight("b", (6,)), weight("c", (6,))


def say(node) -> str:
    """An expression in words: add(x, 2.0)."""
    if not node.args:
        return str(node.attrs.get("name", node.attrs.get("value")))
    part = f"[{node.attrs['start']}:{node.attrs['stop']}]" if node.op == "slice" else ""
    return f"{node.op}{part}({', '.join(map(say, node.args))})"


def e(op, *args):
    return elementwise(op, *(const(a) if isinstance(a, float | int) else a for a in args))


def is_truth(op, *args):
    return e("where", e(op, *args), x, h)


one = take(x, 0, 1)
LAWS = [
    (e("mul", x, 1), "x"),
    (e("mul", 1, x), "x"),
    (e("mul", x, -1), "neg(x)"),
    (e("add", x, 0), "x"),
    (e("add", 0, x), "x"),
    (e("sub", x, 0), "x"),
    (e("sub", 0, x), "neg(x)"),
    (e("neg", e("neg", x)), "x"),
    (e("neg", e("sub", x, h)), "sub(h, x)"),
    (e("neg", e("mul", x, 3)), "mul(x, -3.0)"),
    (e("add", x, e("neg", h)), "sub(x, h)"),
    (e("add", e("neg", x), h), "sub(h, x)"),
    (e("sub", x, e("neg", h)), "add(x, h)"),
    (e("sub", e("neg", x), h), "neg(add(x, h))"),
    (e("mul", e("neg", x), h), "neg(mul(x, h))"),
    (e("mul", e("neg", x), e("neg", h)), "mul(h, x)"),
    (e("mul", e("mul", x, 2), 3), "mul(x, 6.0)"),
    (e("mul", 3, e("mul", 2, x)), "mul(x, 6.0)"),
    (e("div", x, 4), "mul(x, 0.25)"),
    (e("div", e("mul", x, 2), 4), "mul(x, 0.5)"),
    (e("div", e("neg", x), h), "neg(div(x, h))"),
    (e("div", x, e("neg", h)), "neg(div(x, h))"),
    (e("mul", x, e("add", 2, 3)), "mul(x, 5.0)"),
    (e("mul", x, e("exp", 0)), "x"),
    (e("add", x, broadcast(const(0.0), 6)), "x"),
    (e("mul", x, broadcast(one, 6)), "mul(x, slice[0:1](x))"),
    (e("maximum", x, x), "x"),
    (e("where", e("lt", x, h), x, x), "x"),
    (e("where", e("lt", x, h), 2, 2), "broadcast(2.0)"),
    (e("where", e("not", e("lt", x, h)), x, h), "where(lt(x, h), h, x)"),
    (e("where", e("lt", x, h), e("where", e("lt", x, h), x, b), h), "where(lt(x, h), x, h)"),
    (e("where", e("lt", x, h), x, e("where", e("lt", x, h), b, h)), "where(lt(x, h), x, h)"),
    (is_truth("not", e("not", e("lt", x, h))), "where(lt(x, h), x, h)"),
    (take(take(x, 1, 5), 1, 3), "slice[2:4](x)"),
    (take(cat([x, h]), 7, 10), "slice[1:4](h)"),
    (take(cat([x, h]), 0, 6), "x"),
    (take(cat([x, h]), 4, 8), "cat(slice[4:6](x), slice[0:2](h))"),
    (cat([take(x, 0, 2), take(x, 2, 6)]), "x"),
    (cat([take(x, 0, 2), take(x, 2, 4), h]), "cat(slice[0:4](x), h)"),
    (cat([cat([x, h]), x]), "cat(x, h, x)"),
    (take(broadcast(one, 6), 2, 4), "broadcast(slice[0:1](x))"),
    (reduce("sum", one), "slice[0:1](x)"),
    (reduce("sum", broadcast(one, 6)), "mul(slice[0:1](x), 6.0)"),
    (reduce("amax", broadcast(one, 6)), "slice[0:1](x)"),
    (reduce("sum", e("neg", x)), "neg(sum(x))"),
    (stop(stop(x)), "stop(x)"),
]


@pytest.mark.parametrize(("node", "expected"), LAWS, ids=[say(node) for node, _ in LAWS])
def test_laws(node, expected):
    (simple,) = simplify([node])
    verify([simple])
    assert simple.shape == node.shape
    said = say(simple)
    assert said in (expected, f"broadcast({expected})")
    values = {leaf: double(3, 6, seed=k) for k, leaf in enumerate((x, h))}
    values |= {b: double(6), c: double(6)}
    before, after = (t.expand(3, node.size) for t in evaluate([node, simple], values))
    torch.testing.assert_close(before, after, atol=1e-14, rtol=1e-14)


def test_what_looks_simple_and_is_not_stays():
    """NaN and infinity forbid it."""
    for node in (e("mul", x, 0), e("sub", x, x), e("div", x, x), e("div", x, 0.0)):
        assert simplify([node])[0].op == node.op


def test_equal_values_are_one_node():
    first, second = e("tanh", e("add", x, h)), e("tanh", e("add", h, x))
    (product,) = simplify([e("mul", first, second)])
    assert product.args[0] is product.args[1]
    assert say(simplify([e("sub", first, e("tanh", e("sub", x, h)))])[0]).startswith("sub(tanh")


def test_leaves_of_one_name_stay_two():
    other = leaf("x", "x", 6)
    (total,) = simplify([e("add", x, other)])
    assert total.args == (x, other)


# ------------------------------------------------------------------ sums


W, U, V = weight("W", (6, 6)), weight("U", (6, 6)), weight("V", (6, 6))
W_x, V_x, U_h = linear(x, W), linear(x, V), linear(h, U)
SUMS = [
    (e("add", e("add", W_x, b), e("add", U_h, c)), "add(U_h, add(W_x, add(b, c)))"),
    (e("add", e("add", e("add", U_h, W_x), b), c), "add(U_h, add(W_x, add(b, c)))"),
    (e("add", e("sub", U_h, W_x), b), "add(U_h, sub(b, W_x))"),
    (e("sub", e("sub", U_h, W_x), b), "sub(U_h, add(W_x, b))"),
    (e("add", e("mul", h, 2), e("add", e("add", U_h, b), W_x)), "3"),
    (e("add", e("add", W_x, b), c), "add(W_x, add(b, c))"),
    (e("sub", e("sub", 1, h), e("sub", W_x, b)), "sub(sub(add(1.0, b), W_x), h)"),
    (e("add", e("add", W_x, 1), e("add", W_x, 1)), "2"),
    (e("add", e("sub", h, U_h), e("mul", h, 3)), "same"),
    (e("sub", W_x, reduce("amax", W_x)), "same"),
    (e("sub", 1, h), "same"),
]


@pytest.mark.parametrize(("node", "expected"), SUMS, ids=[str(k) for k in range(len(SUMS))])
def test_sums_by_what_they_depend_on(node, expected):
    (simple,) = simplify([node])
    verify([simple])
    values = {x: double(3, 6), h: double(3, 6, seed=1), b: double(6), c: double(6, seed=2)}
    values |= {W: double(6, 6), U: double(6, 6, seed=3), V: double(6, 6, seed=4)}
    before, after = evaluate([node, simple], values)
    torch.testing.assert_close(before, after, atol=1e-12, rtol=1e-12)
    known = {say(W_x): "W_x", say(U_h): "U_h"}
    said = say(simple)
    for long, short in known.items():
        said = said.replace(long, short)
    if expected == "same":
        assert say(simple) == say(node)
    elif not expected.isdigit():
        assert said == expected
    else:
        beside_state = [
            a
            for n in walk([simple])
            if n.varies is Varies.STATE
            for a in n.args
            if a.varies is not Varies.STATE and a.op not in ("const", "weight")
        ]
        assert len(beside_state) <= 1


@pytest.mark.parametrize("cell", [cells.LSTM, cells.GRU, cells.Elman, cells.UGRNN])
def test_one_value_stands_beside_the_recurrent_product(cell):
    step = simplify_step(trace(cell(3, 2)))
    products = [n for n in walk(step.outputs) if n.op == "linear"]
    assert sorted(p.varies for p in products) == [Varies.INPUT, Varies.STATE]
    entering = {
        arg if arg.op != "slice" else arg.args[0]
        for n in walk(step.outputs)
        if n.varies is Varies.STATE
        for arg in n.args
        if arg.varies is Varies.INPUT
    }
    (value,) = entering
    assert value.shape == products[0].shape


def test_lstm_gates():
    step = simplify_step(trace(cells.LSTM(3, 2)))
    (gates,) = (n for n, name in step.names.items() if name == "gates")
    assert say(gates) == (
        "add(linear(h, weight_hh), add(linear(x, weight_ih), add(bias_ih, bias_hh)))"
    )


# ------------------------------------------------------------------ products


class Gates(cells.Cell):
    """One module a gate, as a textbook writes it."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, h=hidden_size)
        self.W = nn.ModuleList(nn.Linear(input_size, hidden_size, bias=k != 1) for k in range(3))
        self.U = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(3))

    def step(self, x, h):
        r = torch.sigmoid(self.W[0](x) + self.U[0](h))
        z = torch.sigmoid(self.W[1](x) + self.U[1](h))
        n = torch.tanh(self.W[2](x) + r * self.U[2](h))
        return (1 - z) * n + z * h


def test_one_product_of_the_input_for_all_gates():
    torch.manual_seed(0)
    cell = Gates(3, 2).double()
    step = assert_step(cell, double(4, 3), [double(4, 2)])
    (product,) = (n for n in walk(step.outputs) if n.op == "linear" and n.varies is Varies.INPUT)
    assert product.shape == (6,)
    entering = {
        arg
        for n in walk(step.outputs)
        if n.varies is Varies.STATE
        for arg in n.args
        if arg.varies is Varies.INPUT
    }
    assert {n.op for n in entering} == {"slice"}
    assert len({n.args[0] for n in entering}) == 1
    assert {"r", "z", "n"} <= set(step.names.values())


class Concatenated(cells.Cell):
    """One matrix for [x, h], as many papers write it."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, h=hidden_size)
        self.W = nn.Linear(input_size + hidden_size, 2 * hidden_size)

    def step(self, x, h):
        z, n = self.W(torch.cat([x, h], dim=-1)).chunk(2, dim=-1)
        return h + z.sigmoid() * (n.tanh() - h)


def test_product_of_input_and_state_is_split():
    torch.manual_seed(0)
    cell = Concatenated(3, 2).double()
    step = assert_step(cell, double(4, 3), [double(4, 2)])
    products = [n for n in walk(step.outputs) if n.op == "linear"]
    assert {(n.varies, n.args[1].shape) for n in products} == {
        (Varies.INPUT, (4, 3)),
        (Varies.STATE, (4, 2)),
    }


def test_deep_products_of_the_input_are_merged_too():
    class Deep(cells.Cell):
        def __init__(self):
            super().__init__(3, h=2)
            self.layers = nn.ModuleList(nn.Linear(k, 2) for k in (3, 3, 2, 2))

        def step(self, x, h):
            a, b = torch.relu(self.layers[0](x)), self.layers[1](x)
            return h * self.layers[2](a) + self.layers[3](a) * b

    torch.manual_seed(0)
    step = assert_step(Deep().double(), double(4, 3), [double(4, 2)])
    assert [n.shape for n in walk(step.outputs) if n.op == "linear"] == [(4,), (4,)]


def test_gradients_keep_the_nodes_of_the_step():
    """A value that the loop saved is found again in the gradient: no node of the step is new."""
    step = simplify_step(trace(cells.LayerNormLSTM(3, 2)))
    cotangents = [leaf("cotangent", f"d{k}", s.size) for k, s in enumerate(step.states)]
    gradients = differentiate(step.outputs, cotangents, [step.x, *step.states])
    forward = set(walk(step.outputs))
    said = {say(node) for node in forward}
    again = [n for n in walk([g for g in gradients if g is not None]) if say(n) in said]
    assert len(again) > 10
    assert all(n in forward for n in again if n.op != "const")


# ------------------------------------------------------------------ any expression

LEAVES = (x, h, b, c, take(x, 2, 3), take(h, 0, 1))
NUMBERS = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]).map(const)
SMOOTH = ("tanh", "sigmoid", "neg", "sin", "cos", "abs", "relu")


def bounded(node):
    """At most about 1, so that no expression overflows."""
    return elementwise("tanh", node)


def expressions(inner):
    binary = st.sampled_from(("add", "sub", "mul", "maximum", "minimum"))
    compare = st.sampled_from(("lt", "le", "gt", "ge"))
    truth = st.builds(elementwise, compare, inner, inner)
    wide = inner.map(lambda node: broadcast(node, 6))
    return st.one_of(
        st.builds(elementwise, st.sampled_from(SMOOTH), inner),
        st.builds(elementwise, binary, inner, inner),
        st.builds(elementwise, st.just("where"), truth, inner, inner),
        st.builds(lambda v: linear(v, W), wide.map(bounded)),
        st.builds(lambda v: linear(v, U), wide.map(bounded)),
        st.builds(lambda v: take(v, 1, 4), wide).flatmap(
            lambda part: wide.map(lambda v: cat([part, take(v, 0, 2), take(v, 2, 3)]))
        ),
        st.builds(lambda v: reduce("sum", bounded(v)), wide),
        st.builds(lambda v: reduce("amax", v), wide),
        st.builds(stop, inner),
    )


EXPRESSIONS = st.recursive(st.one_of(st.sampled_from(LEAVES), NUMBERS), expressions, max_leaves=12)


def values_of_leaves():
    values = {x: double(3, 6), h: double(3, 6, seed=1), b: double(6), c: double(6, seed=2)}
    return values | {W: double(6, 6, seed=3), U: double(6, 6, seed=4)}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(EXPRESSIONS)
def test_any_expression_keeps_its_value(expression):
    output = broadcast(e("add", expression, x), 6)
    verify([output])
    (simple,) = simplify([output])
    verify([simple])
    before, after = evaluate([output, simple], values_of_leaves())
    torch.testing.assert_close(before, after, atol=1e-9, rtol=1e-9)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(EXPRESSIONS)
def test_any_expression_has_its_gradient(expression):
    (output,) = simplify([broadcast(e("add", expression, x), 6)])
    values = {n: v.requires_grad_() for n, v in values_of_leaves().items()}
    wrt = [x, h]
    cotangent = double(3, 6, seed=8)
    (result,) = evaluate([output], values)
    expected = torch.autograd.grad(
        result, [values[n] for n in wrt], cotangent, allow_unused=True, materialize_grads=True
    )
    start = leaf("cotangent", "d", 6)
    found = differentiate([output], [start], wrt)
    verify([f for f in found if f is not None])
    for f, want in zip(found, expected, strict=True):
        if f is None:
            assert not want.any()
            continue
        (actual,) = evaluate([f], values | {start: cotangent})
        scale = 1 + want.abs().max().item()
        assert math.isfinite(scale)
        torch.testing.assert_close(actual, want, atol=1e-9 * scale, rtol=1e-9)


def test_weights_that_are_summed_are_summed_once():
    step = simplify_step(trace(cells.ProjectedLSTM(3, 4)))
    sums = [n for n in walk(step.outputs) if n.op == "add" and n.varies is Varies.WEIGHT]
    assert len(sums) == 1 and {a.attrs["name"] for a in sums[0].args} == {"bias_ih", "bias_hh"}


def test_softmax_stays_stable():
    class Soft(cells.Cell):
        def step(self, x, h):
            return F.softmax(1000 * x + h, dim=-1)

    cell = Soft(4, h=4)
    step = simplify_step(trace(cell))
    values = {step.x: double(3, 4), step.states[0]: double(3, 4, seed=1)}
    (found,) = evaluate(step.outputs, values)
    torch.testing.assert_close(found, cell.step(*values.values()))
    assert found.isfinite().all()
