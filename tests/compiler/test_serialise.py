"""A plan as text: what comes back is the plan, and what is no plan is refused."""

import json
import random
from hashlib import sha256

import pytest
import torch
from torch import nn

from elman.cells.cell import weights_of
from elman.compiler.ir.serialise import plan_text, read_plan
from elman.compiler.pipeline import compile_cell
from elman.compiler.plan import Zoneout
from elman.errors import SavedPlanError
from tests.cells.cases import OPTIONS, PLAIN
from tests.compiler.support import Of


def text_of(cell, **options):
    plan = compile_cell(cell, **options)
    return plan, plan_text(plan, {name: w.dtype for name, w in weights_of(cell).items()})


def looks(plan):
    """What backends see of a plan."""
    return [
        [(node.op, node.shape, node.varies) for node in nodes]
        for nodes in (
            *(plan.outputs, plan.prepared, plan.inputs, plan.rows, plan.making, plan.saved),
            *(plan.backward.stored, plan.backward.after),
        )
    ]


@pytest.mark.parametrize("case", PLAIN + OPTIONS[::5], ids=str)
def test_a_plan_comes_back_as_it_was(case):
    cell = case.build()
    parts = len(cell.state_sizes)
    for options in ({}, {"masked": True, "zoneout": Zoneout((True,) + (0.25,) * (parts - 1))}):
        plan, text = text_of(cell, **options)
        again = read_plan(text)
        assert looks(again) == looks(plan)
        assert plan_text(again, {n: node.attrs["dtype"] for node, n in again.parameters}) == text


def test_a_streamed_plan_comes_back_as_it_was():
    plan, text = text_of(PLAIN[0].build(), streamed=True)
    assert read_plan(text).streamed
    assert looks(read_plan(text)) == looks(plan)


def test_equal_cells_have_equal_texts_and_others_have_not():
    build = {case.cell.__name__: case for case in PLAIN}["Elman"].build
    relu = next(
        c for c in OPTIONS if c.options.get("activation") == "relu" and c.cell.__name__ == "Elman"
    )
    assert text_of(build())[1] == text_of(build())[1]
    assert text_of(build())[1] != text_of(relu.build())[1]
    assert text_of(build())[1] != text_of(build().double())[1]


CALLS = {
    "dtypes": lambda c, x, h: h + (c.a > 0).to(x.dtype).sum(0),
    "lists": lambda c, x, h: h + torch.cat([c.a, c.a * 2])[1:3].mean(0),
    "several results": lambda c, x, h: h + torch.split(c.a, 1)[0][0] * c.a.chunk(2)[1][0],
    "without numbers": lambda c, x, h: torch.tanh(x @ c.a.clamp(-float("inf"), 1.0)) + h,
    "indices": lambda c, x, h: h * c.a[c.order].sum(0),
}


@pytest.mark.parametrize("name", CALLS)
def test_operations_on_weights_keep_their_arguments(name):
    weights = {"a": torch.randn(4, 4)}
    cell = Of(CALLS[name], weights=weights, buffers={"order": torch.tensor([2, 0])})
    plan, text = text_of(cell)
    assert looks(read_plan(text)) == looks(plan)


def test_an_operation_that_takes_strings_is_not_written():
    cell = Of(
        lambda c, x, h: h + nn.functional.gelu(c.a, approximate="tanh"),
        weights={"a": torch.randn(4)},
    )
    with pytest.raises(SavedPlanError, match="aten.gelu.default is no operation"):
        text_of(cell)


# ---------------------------------------------------------------- what is no plan


def sealed(body):
    """A body, a string or fields, with its checksum."""
    body = body if isinstance(body, str) else json.dumps(body)
    return f"elman-plan 1 {sha256(body.encode()).hexdigest()} {body}"


@pytest.fixture(scope="module")
def fields():
    case = next(case for case in PLAIN if case.cell.__name__ == "GRU")
    return json.loads(text_of(case.build())[1].split(" ", 3)[3])


def test_texts_that_are_none_say_why(fields):
    good = sealed(fields)
    assert read_plan(good)
    for text, words in {
        "": "begins with 'elman-plan'",
        "cos_system(subsystem)": "begins with 'elman-plan'",
        good.replace("plan 1", "plan 2", 1): "version '2'; this elman reads version 1",
        good[:-20]: "damaged",
        good.replace("tanh", "relu", 1): "damaged",
        sealed("[" * 100_000): "makes no sense",
        sealed("{}"): "makes no sense",
    }.items():
        with pytest.raises(SavedPlanError, match=words):
            read_plan(text)


@pytest.mark.parametrize("name", [
    "os.system", "aten.system.default", "aten.bernoulli.default", "aten.add_.Tensor",
    "aten.from_file.default", "aten.new_empty.default", "aten._unsafe_index.Tensor",
    "aten.item.default", "aten.equal.default", "aten.__class__.default", "aten.t.__reduce__",
])  # fmt: skip
def test_operations_that_do_more_than_compute_are_refused(name, fields):
    fields = json.loads(json.dumps(fields))
    call = ["call", [4], [6, 3], {"func": name, "args": [{"slot": 0}], "kwargs": [], "index": None}]
    fields["nodes"].append(call)
    with pytest.raises(SavedPlanError, match="names an operation that torch has not|may name"):
        read_plan(sealed(fields))


def mutated(value, draw):
    """The value with one of its leaves, or a piece of a list, exchanged."""
    if isinstance(value, list) and value and draw.random() < 0.9:
        index = draw.randrange(len(value))
        if draw.random() < 0.1:
            return value[:index] + value[index + 1 :]
        return [*value[:index], mutated(value[index], draw), *value[index + 1 :]]
    if isinstance(value, dict) and value and draw.random() < 0.9:
        name = draw.choice([*value])
        return value | {name: mutated(value[name], draw)}
    return draw.choice([None, True, -1, 0, 1, 2, 7, 2**31, 2**70, 0.5, "", "tanh", "relu", "cat",
                        "state", "aten.t.default", [], [0], {}, {"slot": 5}, [[[]]]])  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_text_is_refused_or_a_plan(seed, fields):
    draw, refused = random.Random(seed), 0
    for _ in range(100):
        try:
            plan = read_plan(sealed(mutated(fields, draw)))
        except SavedPlanError:
            refused += 1
        else:
            assert [o.shape for o in plan.outputs] == [s.shape for s in plan.states]
    assert refused > 50
