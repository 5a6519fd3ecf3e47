"""The table of derivatives and the walk, against torch.autograd."""

import pytest
import torch

from elman.compiler.ir.interpret import evaluate
from elman.compiler.ir.nodes import (
    ELEMENTWISE,
    LOGICAL,
    OPS,
    REDUCE,
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
from elman.compiler.ir.weights import call, transposed
from elman.compiler.passes.derivatives import DERIVATIVES
from elman.compiler.passes.differentiate import differentiate
from tests.compiler.support import AWKWARD, double

x, y = leaf("x", "x", len(AWKWARD)), leaf("state", "y", len(AWKWARD))
d = leaf("cotangent", "d", len(AWKWARD))


def check(output, values, wrt=None, cotangent=None):
    """The gradients with respect to the leaves are those of torch."""
    values = {n: v.clone().requires_grad_(v.is_floating_point()) for n, v in values.items()}
    wrt = list(values) if wrt is None else wrt
    (result,) = evaluate([output], values)
    result = result.expand(len(next(iter(values.values()))), output.size)
    given = double(*result.shape, seed=5) if cotangent is None else cotangent
    expected = torch.autograd.grad(
        result, [values[n] for n in wrt], given, allow_unused=True, retain_graph=True
    )
    start = leaf("cotangent", "d", output.size)
    found = differentiate([output], [start], wrt)
    verify([f for f in found if f is not None])
    for node, f, e in zip(wrt, found, expected, strict=True):
        if f is None:
            assert e is None or not e.any(), node
            continue
        (actual,) = evaluate([f], values | {start: given})
        assert f.shape == node.shape
        torch.testing.assert_close(actual, e, atol=1e-10, rtol=1e-10, equal_nan=True)
    return found


def grid():
    points = torch.tensor(AWKWARD, dtype=torch.float64)
    a = points[:, None].expand(len(points), len(points))
    return {x: a.clone(), y: a.T.clone()}


def positive(values):
    return {node: value.abs() + 0.25 for node, value in values.items()}


def test_every_operation_has_a_derivative():
    """What is not in the table carries no gradient, or the walk itself passes it on."""
    without = OPS - DERIVATIVES.keys()
    leaves = {"weight", "const", "x", "state", "mask", "cotangent"}
    assert without == leaves | LOGICAL | {"sign", "stop", "slice", "cat", "outer", "rowsum"}
    assert {*ELEMENTWISE, *REDUCE} - LOGICAL - {"sign"} <= DERIVATIVES.keys()


@pytest.mark.parametrize("op", ["neg", "exp", "abs", "sigmoid", "tanh", "erf", "relu", "sin"])
def test_unary(op):
    check(elementwise(op, elementwise("mul", x, const(0.1))), {x: grid()[x]})


@pytest.mark.parametrize("op", ["log", "log1p", "expm1", "sqrt", "rsqrt", "reciprocal", "cos"])
def test_unary_of_positive_numbers(op):
    check(elementwise(op, x), positive({x: grid()[x] / 10}))


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "maximum", "minimum"])
def test_binary(op):
    check(elementwise(op, x, y), grid())
    check(elementwise(op, x, x), {x: grid()[x]})
    check(elementwise(op, const(0.5), y), {y: grid()[y]})
    check(elementwise(op, take(x, 0, 1), y), grid())
    check(elementwise(op, x, reduce("sum", y)), grid())


def test_power():
    values = positive({n: v / 10 for n, v in grid().items()})
    check(elementwise("pow", x, y), values)
    check(elementwise("pow", x, const(1.5)), values)
    check(elementwise("pow", const(1.5), y), grid())
    at_zero = {x: grid()[x].relu(), y: grid()[y].clamp(-1, 3)}
    check(elementwise("pow", x, y), at_zero)
    check(elementwise("pow", x, const(0.0)), grid(), [x])
    check(elementwise("pow", x, const(2.0)), grid(), [x])


@pytest.mark.parametrize("compare", ["lt", "le", "gt", "ge", "eq", "ne"])
def test_where(compare):
    condition = elementwise(compare, x, y)
    check(elementwise("where", condition, elementwise("mul", x, y), const(2.0)), grid())
    both = elementwise("and", condition, elementwise("not", elementwise("lt", y, const(0.0))))
    check(elementwise("where", elementwise("or", both, condition), x, y), grid())


def test_where_lets_no_nan_through():
    """Of a branch that is not taken nothing passes, infinite as its slope may be."""
    safe = elementwise("where", elementwise("gt", x, const(0.0)), x, const(1.0))
    output = elementwise("where", elementwise("gt", x, const(0.0)), elementwise("log", safe), x)
    values = {x: torch.tensor([[-1.0, 0.0, 2.0] * 5])[:, : len(AWKWARD)].double()}
    check(output, values)
    (gradient,) = differentiate([output], [d], [x])
    (found,) = evaluate([gradient], values | {d: double(1, len(AWKWARD))})
    assert found.isfinite().all()


def test_relu_of_nan():
    """NaN has the gradient that torch gives it."""
    values = {x: torch.tensor([[float("nan"), 0.0, -0.0, 1.0, -1.0] * 3]).double()[:, :14]}
    check(elementwise("relu", x), values)


def test_last_axis():
    check(reduce("sum", elementwise("mul", x, y)), grid())
    check(elementwise("mul", reduce("amax", x), y), {x: double(3, 14), y: double(3, 14, seed=1)})
    tied = double(3, 14).round()
    assert (tied == tied.amax(-1, keepdim=True)).sum() > 3
    check(elementwise("mul", reduce("amax", x), y), {x: tied, y: tied})
    check(elementwise("mul", broadcast(reduce("sum", x), 14), y), grid())


def test_slices_that_cover_a_value_make_one_cat():
    parts = [take(x, 0, 4), take(x, 4, 9), take(x, 9, 14)]
    bent = [elementwise(op, p) for op, p in zip(("tanh", "exp", "sigmoid"), parts, strict=True)]
    output = cat(bent[::-1])
    (gradient,) = check(output, {x: double(3, 14)})
    assert gradient.op == "cat" and [p.size for p in gradient.args] == [4, 5, 5]
    assert not [n for n in walk([gradient]) if n.op == "broadcast"]


def test_gaps_between_slices_are_zero():
    output = elementwise("mul", take(x, 2, 5), take(y, 6, 9))
    (d_x, d_y) = check(output, {x: double(3, 14), y: double(3, 14, seed=1)})
    assert d_x.op == "cat" and [p.size for p in d_x.args] == [2, 3, 9]
    assert [p.size for p in d_y.args] == [6, 3, 5]


def test_overlapping_and_equal_slices():
    products = [
        elementwise("mul", take(x, a, a + 4), take(y, b, b + 4))
        for a, b in ((0, 0), (2, 0), (0, 5), (10, 10), (9, 2))
    ]
    output = cat(products)
    check(output, {x: double(3, 14), y: double(3, 14, seed=1)})
    check(elementwise("mul", output, reduce("sum", x)), {x: double(3, 14), y: double(3, 14)})


def test_product():
    W, V = weight("W", (5, 14)), weight("V", (5, 14))
    output = elementwise("tanh", elementwise("add", linear(x, W), linear(y, V)))
    values = {x: double(3, 14), y: double(3, 14, seed=1), W: double(5, 14), V: double(5, 14)}
    d_x, _, d_W, _ = check(output, values)
    assert [n.op for n in walk([d_x])].count("call") == 1
    assert d_W.op == "outer" and d_W.args[1] is x


def test_product_with_the_same_weight_twice():
    W = weight("W", (14, 14))
    once = elementwise("tanh", linear(x, W))
    output = elementwise("mul", linear(once, W), linear(x, W))
    (d_W,) = check(output, {x: double(3, 14), W: double(14, 14)}, [W])
    assert d_W.op == "add" and {a.op for a in d_W.args} == {"outer"}


def test_a_gradient_is_made_of_what_is_given_alone():
    """Where W^T is given, W is not known."""
    given = transposed(weight("W", (4, 3)))
    v, start = leaf("state", "v", 4), leaf("cotangent", "d", 3)
    d_v, d_given = differentiate([linear(v, given)], [start], [v, given])
    values = {v: double(5, 4, seed=1), given: double(3, 4, seed=2), start: double(5, 3, seed=3)}
    found = evaluate([d_v, d_given], values)
    torch.testing.assert_close(found[0], values[start] @ values[given])
    torch.testing.assert_close(found[1], values[start].T @ values[v])


def test_transposed_weight_is_transposed_back():
    W = weight("W", (14, 5))
    output = linear(x, transposed(W))
    (d_x,) = check(output, {x: double(3, 14), W: double(14, 5)}, [x])
    assert d_x.args[1] is W


@pytest.mark.parametrize("shape", [(), (1,), (14,), (1, 14), (1, 1)])
@pytest.mark.parametrize("op", ["add", "mul", "div", "sub"])
def test_weight_of_any_shape(shape, op):
    w = weight("w", shape)
    row = w
    if len(shape) != 1:
        row = call(torch.ops.aten.reshape.default, [w, (w.size,)], (w.size,))
    output = elementwise(op, elementwise("tanh", x), elementwise("mul", row, y))
    values = {**grid(), w: double(*shape, seed=3) + 2}
    check(output, {n: v / 10 + 3 for n, v in values.items()})


def test_weight_of_its_own_against_vectors():
    w, v = weight("w", (14,)), weight("v", (1,))
    sums = elementwise("mul", elementwise("add", w, v), elementwise("exp", v))
    output = elementwise("mul", elementwise("tanh", x), sums)
    found = check(output, {x: double(3, 14), w: double(14), v: double(1)})
    assert all(f is not None for f in found)


def test_cut_anywhere():
    """A node of the middle is independent of what it is made of."""
    middle = elementwise("tanh", x)
    output = elementwise("mul", middle, x)
    d_x, d_middle = differentiate([output], [d], [x, middle])
    values = {x: double(3, 14), d: double(3, 14, seed=1)}
    values[middle] = values[x].tanh()
    found = evaluate([d_x, d_middle], values)
    torch.testing.assert_close(found[0], values[d] * values[middle])
    torch.testing.assert_close(found[1], values[d] * values[x])


def test_nothing_to_give():
    other = leaf("state", "z", 14)
    assert differentiate([elementwise("tanh", x)], [d], [other]) == (None,)
    assert differentiate([stop(elementwise("tanh", x))], [d], [x]) == (None,)
    assert differentiate([elementwise("tanh", x)], [None], [x]) == (None,)
    assert differentiate([x], [d], [x]) == (d,)
    compared = elementwise("where", elementwise("lt", x, y), const(1.0), const(2.0))
    assert differentiate([compared], [d], [x, y]) == (None, None)


def test_gradient_that_is_zero_everywhere():
    """Both branches of one condition, one inside the other: nothing passes both."""
    condition, w = elementwise("lt", x, const(0.5)), weight("w", (14,))
    inner = elementwise("where", condition, const(0.0), elementwise("add", y, w))
    output = elementwise("where", condition, inner, x)
    assert differentiate([output], [d], [y, w])[0] is None
    d_x, _, d_w = check(output, {**grid(), w: double(14)})
    assert d_x is not None and (d_w is None or d_w.op == "broadcast")


def test_values_of_the_step_are_used_again():
    """The gradient of tanh, sigmoid and exp is written with their values."""
    for op in ("tanh", "sigmoid", "exp", "sqrt", "rsqrt", "reciprocal"):
        value = elementwise(op, x)
        (gradient,) = differentiate([value], [d], [x])
        nodes = list(walk([gradient]))
        assert value in nodes
        assert [n.op for n in nodes].count(op) == 1


def test_second_derivative():
    W = weight("W", (14, 14))
    output = elementwise("tanh", linear(elementwise("mul", elementwise("sigmoid", x), y), W))
    values = {x: double(3, 14), y: double(3, 14, seed=1), W: double(14, 14)}
    values = {n: v.requires_grad_() for n, v in values.items()}
    given = double(3, 14, seed=5).requires_grad_()
    again = double(3, 14, seed=6)
    first = differentiate([output], [d], [x])[0]
    e = leaf("cotangent", "e", 14)
    second = differentiate([first], [e], [x, y, W, d])
    (result,) = evaluate([output], values)
    (d_x,) = torch.autograd.grad(result, values[x], given, create_graph=True)
    expected = torch.autograd.grad(d_x, [values[x], values[y], values[W], given], again)
    found = evaluate(second, values | {d: given, e: again})
    for f, want in zip(found, expected, strict=True):
        torch.testing.assert_close(f, want, atol=1e-10, rtol=1e-10)
