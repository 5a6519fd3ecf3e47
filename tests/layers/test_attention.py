"""Attention against loops over batch, steps and places, in float64."""

import pytest
import torch

from elman.errors import OptionError, ShapeError
from elman.layers import Attention
from tests.support import assert_close, assert_equal, randomise

KINDS = ("additive", "dot", "general")
SIZES = {"additive": (5, 3), "dot": (3, 3), "general": (5, 3)}


def attention(kind, **options):
    return randomise(Attention(*SIZES[kind], kind, **options))


def score(layer, q, m):
    """e of one query and one vector, written from the papers."""
    if layer.kind == "dot":
        return sum(a * b for a, b in zip(q, m, strict=True))
    if layer.kind == "general":
        return q @ (layer.key.weight @ m)
    return layer.score @ torch.tanh(layer.query.weight @ q + layer.key.weight @ m)


def naive(layer, query, memory, lengths):
    """Context and weights, one query at a time."""
    T, B, S = len(query), memory.shape[1], len(memory)
    context, weights = torch.zeros(T, B, memory.shape[2]), torch.zeros(T, B, S)
    for t in range(T):
        for b in range(B):
            n = lengths[b]
            if n == 0:
                continue
            e = torch.stack([score(layer, query[t, b], memory[s, b]) for s in range(n)]).exp()
            weights[t, b, :n] = e / e.sum()
            context[t, b] = sum(weights[t, b, s] * memory[s, b] for s in range(n))
    return context, weights


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("T", "S", "lengths"), [(4, 6, [2, 6, 0, 1]), (1, 1, [1]), (3, 5, [5, 4, 5]), (2, 3, [0, 0])]
)
def test_all_steps_at_once_are_the_loop(kind, T, S, lengths):
    layer, B = attention(kind), len(lengths)
    query, memory = torch.randn(T, B, SIZES[kind][0]), torch.randn(S, B, 3)
    found = layer(query, memory, torch.tensor(lengths))
    with torch.no_grad():
        expected = naive(layer, query, memory, lengths)
    assert_close(found, expected)
    for b, n in enumerate(lengths):
        assert_equal(found[1][:, b, n:], torch.zeros(T, S - n))


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_is_a_step_of_all(kind):
    layer = attention(kind)
    query, memory = torch.randn(4, 3, SIZES[kind][0]), torch.randn(5, 3, 3)
    lengths = torch.tensor([3, 0, 5])
    prepared = layer.prepare(memory, lengths)
    context, weights = layer(query, memory, lengths)
    for t in range(4):
        assert_close(layer.attend(query[t], prepared), (context[t], weights[t]))
        assert_close(layer(query[t], memory, lengths), (context[t], weights[t]))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind):
    layer = attention(kind, **({"attention_size": 2} if kind == "additive" else {}))
    query, memory = torch.randn(2, 3, SIZES[kind][0]), torch.randn(4, 3, 3)
    parameters = {name: p.detach().clone() for name, p in layer.named_parameters()}

    def run(query, memory, *values):
        given = dict(zip(parameters, values, strict=True))
        arguments = (query, memory, torch.tensor([2, 0, 4]))
        return torch.func.functional_call(layer, given, arguments)

    inputs = [query, memory, *parameters.values()]
    assert torch.autograd.gradcheck(run, [i.requires_grad_() for i in inputs])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 1e300])
def test_garbage_in_the_padding_changes_nothing(kind, garbage):
    layer = attention(kind)
    query, memory = torch.randn(4, 3, SIZES[kind][0]), torch.randn(5, 3, 3)
    lengths = [3, 0, 5]
    spoilt = memory.clone()
    for b, n in enumerate(lengths):
        spoilt[n:, b] = garbage
    results, grads = [], []
    for m in (memory, spoilt):
        m.requires_grad_()
        with torch.autograd.set_detect_anomaly(True):  # no NaN on the way either
            context, weights = layer(query, m, lengths)
            results.append((context, weights))
            grads.append(torch.autograd.grad((context**2).sum() + weights[..., 0].sum(), m)[0])
    assert_equal(results[1], results[0])
    assert_equal(grads[1], grads[0])
    assert torch.isfinite(grads[0]).all()


def test_large_scores_do_not_overflow():
    layer = Attention(3, 3, "dot")
    query, memory = torch.full((1, 1, 3), 1e4), torch.randn(4, 1, 3) * 1e4
    context, weights = layer(query, memory, [3])
    best = memory[:3, 0].sum(-1).argmax()
    assert_close(weights[0, 0], torch.eye(4)[best])
    assert_close(context[0, 0], memory[best, 0])


def test_a_memory_without_places_gives_nothing():
    layer = attention("additive")
    context, weights = layer(torch.randn(2, 3, 5), torch.randn(0, 3, 3), [0, 0, 0])
    assert_equal(context, torch.zeros(2, 3, 3))
    assert weights.shape == (2, 3, 0)


def test_what_does_not_fit_is_refused():
    with pytest.raises(OptionError, match="did you mean 'additive'"):
        Attention(3, 3, "additiv")
    with pytest.raises(OptionError, match="kind='general'"):
        Attention(3, 4, "dot")
    with pytest.raises(OptionError, match="additive' alone"):
        Attention(3, 4, "general", attention_size=2)
    with pytest.raises(OptionError, match="attention_size"):
        Attention(3, 4, attention_size=0)
    layer = Attention(5, 3)
    with pytest.raises(ShapeError, match="memory must be"):
        layer(torch.zeros(1, 2, 5), torch.zeros(4, 2, 4))
    with pytest.raises(ShapeError, match="query must be"):
        layer(torch.zeros(1, 3, 5), torch.zeros(4, 2, 3))
    with pytest.raises(ShapeError, match="lengths must lie in 0 ... T = 4, got 5 at b=1"):
        layer(torch.zeros(1, 2, 5), torch.zeros(4, 2, 3), [4, 5])
