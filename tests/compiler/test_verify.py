"""An expression that means nothing is found."""

import pytest

from elman.compiler.ir.nodes import (
    Node,
    Varies,
    const,
    elementwise,
    leaf,
    outer,
    rowsum,
    take,
    weight,
)
from elman.compiler.ir.verify import InternalError, verify

x, h, W = leaf("x", "x", 3), leaf("state", "h", 4), weight("W", (4, 3))


def node(op, args, shape, varies=Varies.STATE, **attrs):
    return Node(op, tuple(args), shape, varies, attrs, "mgu.py:31")


WRONG = {
    "no operation": node("frob", [h], (4,)),
    "2 arguments": node("add", [h], (4,)),
    "3 arguments": node("where", [h, h], (4,)),
    "0 arguments": node("x", [h], (4,), Varies.INPUT),
    "vectors of one size": node("add", [x, h], (4,)),
    "the shape [4]": node("tanh", [h], (3,)),
    "vary as STATE": node("tanh", [h], (4,), Varies.INPUT),
    "vary with the input": node("x", [], (4,)),
    "vary with the state": node("cotangent", [], (4,), Varies.INPUT),
    "to be a weight": node("weight", [], (4,)),
    "weights alone": node("call", [h], (4,), Varies.WEIGHT),
    "numbers to multiply": node("linear", [h, W], (4,)),
    "a weight matrix": node("linear", [h, weight("b", (4,))], (4,)),
    "a truth value": node("where", [h, h, h], (4,)),
    "a part, got 2:9": node("slice", [h], (7,), start=2, stop=9),
    "the shape [7]": node("cat", [x, h], (8,)),
    "value of size 1": node("broadcast", [h], (8,), size=8),
    "the shape [1]": node("sum", [h], (4,)),
    "a vector": node("linear", [x, W], (1, 4), Varies.INPUT),
    "no sum over the rows": elementwise("mul", rowsum(h), h),
    "a row value": outer(weight("b", (4,)), weight("b", (4,))),
}


@pytest.mark.parametrize("expected", WRONG)
def test_names_what_is_wrong(expected):
    wrong = WRONG[expected]
    fine = elementwise("tanh", h)
    verify([fine])
    with pytest.raises(InternalError) as caught:
        verify([fine, wrong])
    assert expected in str(caught.value)
    assert repr(wrong) in str(caught.value)


def test_says_where_it_comes_from():
    with pytest.raises(InternalError, match=r"from mgu.py:31"):
        verify([node("add", [h], (4,))])


def test_right_expressions():
    verify([elementwise("add", h, const(1.0)), take(h, 0, 2), outer(h, x), rowsum(x)])
