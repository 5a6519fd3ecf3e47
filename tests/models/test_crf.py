"""The linear chain against all of its paths, one by one."""

from itertools import product

import pytest
import torch

from elman.errors import DataError, OptionError, ShapeError
from elman.models import CRF
from elman.models.text.spans import forbidden_by_bio
from tests.support import assert_close, assert_equal, gradients

K = 3
LENGTHS = [2, 5, 0, 1]
BIO = ["O", "B-X", "I-X"]


@pytest.fixture(autouse=True)
def _in_float64(float64):
    """Ask for the fixture `float64` in every test of this file."""


def field(rules=False):
    crf = CRF(K)
    if rules:
        transitions, starts = forbidden_by_bio(BIO)
        crf = CRF(K, forbidden_transitions=transitions, forbidden_starts=starts)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_(std=2)
    return crf


def score(crf, emissions, path):
    """s(y) of one sequence [n, K]; None where the path is forbidden."""
    if not path:
        return emissions.sum()
    total = crf.start[path[0]] + crf.end[path[-1]]
    if crf.forbidden_starts is not None and crf.forbidden_starts[path[0]]:
        return None
    for t, tag in enumerate(path):
        total = total + emissions[t, tag]
        if t:
            if (
                crf.forbidden_transitions is not None
                and crf.forbidden_transitions[path[t - 1], tag]
            ):
                return None
            total = total + crf.transitions[path[t - 1], tag]
    return total


def paths(crf, emissions):
    """Every allowed path of one sequence, and the logarithm of its probability."""
    every = [list(p) for p in product(range(K), repeat=len(emissions))]
    scores = {tuple(p): s for p in every if (s := score(crf, emissions, p)) is not None}
    shares = torch.stack(list(scores.values())).log_softmax(dim=0)
    return dict(zip(scores, shares, strict=True))


def some(seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    emissions = torch.randn(5, len(LENGTHS), K, generator=generator, dtype=torch.float64) * scale
    return emissions.requires_grad_()


def legal_tags():
    return torch.tensor([[1, 0, 9, 0], [2, 1, 9, -7], [2, 2, 9, 5], [8, 1, 9, 5], [8, 0, 9, 5]])


#: Scores near each other, and so far apart that float64 has no number for the least of them.
SCALES = pytest.mark.parametrize("scale", [2.0, 1000.0])


@SCALES
@pytest.mark.parametrize("rules", [False, True])
def test_the_likelihood_is_the_share_of_one_path_among_all(rules, scale):
    crf, emissions, tags = field(rules), some(scale=scale), legal_tags()
    found = crf.log_likelihood(emissions, tags, torch.tensor(LENGTHS))
    expected = torch.stack(
        [paths(crf, emissions[:n, b])[tuple(tags[:n, b].tolist())] for b, n in enumerate(LENGTHS)]
    )
    assert_close(found, expected)
    assert found[2] == 0
    wrt = (emissions, *crf.parameters())
    assert_close(gradients(found, wrt), gradients(expected, wrt))


@SCALES
@pytest.mark.parametrize("rules", [False, True])
def test_marginals_and_the_best_path_are_those_of_all_paths(rules, scale):
    crf, emissions = field(rules), some(1, scale)
    lengths = torch.tensor(LENGTHS)
    marginals, best = crf.marginals(emissions, lengths), crf.decode(emissions, lengths)
    assert not marginals.requires_grad
    for b, n in enumerate(LENGTHS):
        every = paths(crf, emissions[:n, b])
        expected = torch.zeros(5, K)
        for path, share in every.items():
            for t, tag in enumerate(path):
                expected[t, tag] += share.detach().exp()
        assert_close(marginals[:, b], expected)
        assert tuple(best[:n, b].tolist()) == max(every, key=lambda path: every[path])
        assert not best[n:, b].any()


def test_a_tag_that_nothing_leads_to():
    only_first = torch.zeros(K, K, dtype=torch.bool)
    only_first[:, 2] = True
    crf, emissions = CRF(K, forbidden_transitions=only_first), some()
    path = [2, 0, 1, 1, 0]
    found = crf.log_likelihood(emissions[:, :1], torch.tensor(path)[:, None])
    expected = paths(crf, emissions[:, 0])[tuple(path)][None]
    assert_close(found, expected)
    wrt = (emissions, *crf.parameters())
    assert_close(gradients(found, wrt), gradients(expected, wrt))
    assert not crf.marginals(emissions)[1:, :, 2].any()


def test_marginals_are_the_gradient_of_the_partition():
    crf, emissions, tags = field(), some(), legal_tags()
    lengths = torch.tensor(LENGTHS)
    total = crf.log_likelihood(emissions, tags, lengths).sum()
    (gradient,) = torch.autograd.grad(total, emissions)
    valid = torch.arange(5)[:, None] < lengths
    gold = torch.nn.functional.one_hot(torch.where(valid, tags, 0), K) * valid[..., None]
    assert_close(gold - gradient, crf.marginals(emissions, lengths))


@pytest.mark.parametrize("rules", [False, True])
def test_gradients_are_the_slopes(rules):
    crf, emissions, tags = field(rules), some(), legal_tags()

    def likelihood(emissions, *_):
        return crf.log_likelihood(emissions, tags, torch.tensor(LENGTHS))

    assert torch.autograd.gradcheck(likelihood, (emissions, *crf.parameters()))


def test_padding_changes_nothing():
    crf, clean, tags = field(), some(), legal_tags()
    lengths = torch.tensor(LENGTHS)
    outside = torch.arange(5)[:, None] >= lengths
    dirty = clean.detach().masked_fill(outside[..., None], torch.nan).requires_grad_()
    other = torch.where(outside, 1, tags)
    found = crf.log_likelihood(dirty, tags, lengths)
    expected = crf.log_likelihood(clean, other, lengths)
    assert_equal(found, expected)
    wrt = tuple(crf.parameters())
    assert_equal(gradients(found, (dirty, *wrt)), gradients(expected, (clean, *wrt)))
    assert_equal(crf.marginals(dirty, lengths), crf.marginals(clean, lengths))
    assert_equal(crf.decode(dirty, lengths), crf.decode(clean, lengths))


def test_great_scores_stay_finite():
    crf = field()
    emissions = (some().detach().float() * 300).requires_grad_()
    crf.float()
    with torch.no_grad():
        crf.transitions.mul_(200)
    tags = torch.zeros(5, 4, dtype=torch.long)
    found = crf.log_likelihood(emissions, tags, torch.tensor(LENGTHS))
    wrt = (emissions, *crf.parameters())
    assert all(g.isfinite().all() for g in (found, *gradients(found, wrt)))


@pytest.mark.parametrize("T", [0, 1])
@pytest.mark.parametrize("B", [0, 2])
def test_few_steps_and_none(T, B):
    crf = field()
    emissions = torch.randn(T, B, K, requires_grad=True)
    found = crf.log_likelihood(emissions, torch.zeros(T, B, dtype=torch.long))
    expected = (emissions + crf.start + crf.end).log_softmax(dim=-1)[..., 0].sum(dim=0)
    assert_close(found, expected)
    found.sum().backward()
    assert all(p.grad is not None for p in (emissions, *crf.parameters()))
    assert crf.decode(emissions).shape == (T, B)
    assert_close(crf.marginals(emissions), (emissions + crf.start + crf.end).softmax(dim=-1))


def test_half_precision_is_computed_in_single():
    crf = field().float()
    emissions = torch.randn(40, 2, K).bfloat16()
    tags = torch.zeros(40, 2, dtype=torch.long)
    found = crf.log_likelihood(emissions, tags)
    assert found.dtype is torch.float32
    assert_equal(found, crf.log_likelihood(emissions.float(), tags))


def test_what_cannot_be_is_refused():
    crf = field(rules=True)
    emissions = torch.randn(2, 1, K)
    with pytest.raises(DataError, match=r"tags\[1, 0\] is 2 after tag 0, which is forbidden"):
        crf.log_likelihood(emissions, torch.tensor([[0], [2]]))
    with pytest.raises(DataError, match=r"tags\[0, 0\] is 2 at the start"):
        crf.log_likelihood(emissions, torch.tensor([[2], [2]]))
    with pytest.raises(ShapeError, match=r"0 ... 2, got -1 ... 1"):
        crf.log_likelihood(emissions, torch.tensor([[1], [-1]]))
    with pytest.raises(ShapeError, match=r"\[T, B, 3\]"):
        crf.decode(emissions[..., :2])
    with pytest.raises(OptionError, match="no sequence is possible"):
        CRF(2, forbidden_starts=torch.tensor([True, True]))
    with pytest.raises(ShapeError, match=r"must be bool \[2, 2\]"):
        CRF(2, forbidden_transitions=torch.zeros(2, 2))


def test_bio_rules_are_written_out():
    transitions, starts = forbidden_by_bio(["O", "B-X", "I-X", "B-Y", "I-Y"])
    assert starts.tolist() == [False, False, True, False, True]
    allowed = {(1, 2), (2, 2), (3, 4), (4, 4)}
    for i, j in product(range(5), repeat=2):
        assert transitions[i, j].item() == (j in (2, 4) and (i, j) not in allowed)
    with pytest.raises(DataError, match="'E-X' marks no span"):
        forbidden_by_bio(["O", "E-X"])
