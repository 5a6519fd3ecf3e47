"""Connectionist temporal classification: the loss and the searches against enumeration."""

import itertools

import numpy as np
import pytest
import torch

from elman.errors import OptionError, ShapeError
from elman.models import LanguageModel, Transcriber
from elman.models.audio.ctc import Collapse, best_paths, prefix_search, required_steps
from elman.models.text.lm_fusion import LanguagePrior

SIZES = [(4, 2), (5, 3), (6, 1)]


def drawn(T, V, seed=0, spread=2.0):
    """[T, V + 1] log probabilities."""
    torch.manual_seed(seed)
    return (spread * torch.randn(T, V + 1, dtype=torch.float64)).log_softmax(-1).numpy()


def enumerated(log_p):
    """Every labelling with its log probability: the sum over all paths."""
    T, blank = len(log_p), log_p.shape[1] - 1
    found = {}
    for path in itertools.product(range(blank + 1), repeat=T):
        y = tuple(k for k, _ in itertools.groupby(path) if k != blank)
        found[y] = np.logaddexp(found.get(y, -np.inf), sum(log_p[t, k] for t, k in enumerate(path)))
    return found


def language(V, seed=1):
    torch.manual_seed(seed)
    return LanguageModel(V + 2, hidden_size=5).double().eval()


def log_p_of(model, y, V):
    """ln p(y, end) with token V + 1 as start and end."""
    ids = torch.tensor([V + 1, *(u + 1 for u in y)])
    with torch.no_grad():
        logits, _ = model(ids[:, None])
    log_p = logits[:, 0].log_softmax(-1)
    wanted = [*(u + 1 for u in y), V + 1]
    return sum(float(log_p[i, token]) for i, token in enumerate(wanted))


@pytest.mark.parametrize("size", SIZES)
def test_a_wide_search_finds_the_most_probable_labellings(size):
    log_p = drawn(*size)
    truth = enumerated(log_p)
    best = sorted(truth, key=lambda y: -truth[y])[:8]
    found = prefix_search(log_p, 10_000, n_best=8)
    assert [one.units for one in found] == best
    for one in found:
        assert one.log_probability == pytest.approx(truth[one.units], abs=1e-9)
        assert one.score == one.log_probability


@pytest.mark.parametrize("size", SIZES)
def test_so_it_does_with_a_language_model_and_a_bonus(size):
    V = size[1]
    log_p, model = drawn(*size, seed=2), language(V)
    prior = LanguagePrior(model, torch.arange(V) + 1, torch.tensor([V + 1]), end=V + 1)
    truth = {
        y: p + 0.7 * log_p_of(model, y, V) + 0.4 * len(y) for y, p in enumerated(log_p).items()
    }
    best = sorted(truth, key=lambda y: -truth[y])[:8]
    found = prefix_search(log_p, 10_000, prior=prior, weight=0.7, bonus=0.4, n_best=8)
    assert [one.units for one in found] == best
    assert [one.score for one in found] == pytest.approx([truth[y] for y in best], abs=1e-9)


def test_the_most_probable_labelling_need_not_be_that_of_the_best_path():
    # Graves et al. 2006: the blank is likeliest at each step, and a path with a unit in sum.
    log_p = np.log([[0.4, 0.6], [0.4, 0.6]])
    ((greedy),) = best_paths(torch.tensor(log_p)[:, None], torch.tensor([2]), 1)
    assert greedy == []
    (found,) = prefix_search(log_p, 8)
    assert found.units == (0,) and np.exp(found.log_probability) == pytest.approx(0.64)


@pytest.mark.parametrize("beams", [1, 2, 5])
def test_a_narrow_search_never_claims_more_than_there_is(beams):
    for seed in range(5):
        log_p = drawn(5, 3, seed)
        truth = enumerated(log_p)
        for one in prefix_search(log_p, beams, n_best=beams):
            assert one.log_probability <= truth[one.units] + 1e-9


def test_a_unit_that_was_ruled_out_is_never_written():
    log_p = drawn(5, 3)
    log_p[:, 1] = -np.inf
    assert all(1 not in one.units for one in prefix_search(log_p, 100, n_best=100))


def test_no_steps_spell_nothing():
    (found,) = prefix_search(np.zeros((0, 3)), 4)
    assert found.units == () and found.log_probability == 0
    with pytest.raises(ShapeError, match="log_p must be"):
        prefix_search(np.zeros(3))


def test_paths_collapse_step_by_step():
    collapse = Collapse(blank=0)
    assert [collapse(unit) for unit in (0, 1, 1, 0, 1, 2, 2)] == [None, 1, None, None, 1, 2, None]
    path = torch.nn.functional.one_hot(torch.tensor([2, 0, 0, 2, 0, 1, 1]), 3).float()[:, None]
    (whole,) = best_paths(path, torch.tensor([7]), 2)
    assert whole == [(0, 1), (0, 4), (1, 5)]
    (cut,) = best_paths(path, torch.tensor([3]), 2)
    assert cut == [(0, 1)]
    assert required_steps([1, 1, 2, 2, 2]) == 8 and required_steps([]) == 0


def model(**options):
    torch.manual_seed(0)
    return Transcriber(3, input_size=4, hidden_size=6, **options)


def test_the_loss_is_the_sum_over_all_paths():
    torch.manual_seed(1)
    transcriber = model().double()
    x, lengths = torch.randn(5, 2, 4, dtype=torch.float64), torch.tensor([5, 3])
    y, y_lengths = torch.tensor([[0, 1], [0, 9], [2, 9]]), torch.tensor([3, 1])
    loss = transcriber.loss(x, lengths, y, y_lengths)
    log_p = transcriber(x, lengths).detach().numpy()
    wanted = enumerated(log_p[:, 0])[0, 0, 2] + enumerated(log_p[:3, 1])[(1,)]
    assert loss.total.item() == pytest.approx(-wanted, rel=1e-5) and int(loss.count) == 4


def test_what_cannot_be_spelt_is_infinite_and_bad_targets_are_refused():
    x, lengths = torch.randn(3, 1, 4), torch.tensor([3])
    y = torch.tensor([[0], [0], [0]])
    assert torch.isinf(model().loss(x, lengths, y, torch.tensor([3])).total)
    with pytest.raises(ShapeError, match=r"y must lie in 0 ... 2"):
        model().loss(x, lengths, y + 3, torch.tensor([3]))
    with pytest.raises(ShapeError, match=r"y must be \[L, B\]"):
        model().loss(x, lengths, y[:, 0], torch.tensor([3]))
    with pytest.raises(OptionError):
        Transcriber(0, input_size=4)


def test_one_batch_is_learnt_by_heart():
    torch.manual_seed(0)
    transcriber = model(bidirectional=True)
    x, lengths = torch.randn(9, 3, 4), torch.tensor([9, 7, 5])
    y, y_lengths = torch.tensor([[0, 2, 1], [0, 1, 0], [1, 0, 0]]), torch.tensor([3, 2, 1])
    optimizer = torch.optim.Adam(transcriber.parameters(), 0.03)
    for _ in range(80):
        optimizer.zero_grad()
        loss = transcriber.loss(x, lengths, y, y_lengths)
        loss.mean.backward()
        optimizer.step()
    assert loss.mean.item() < 0.05
    paths = list(best_paths(transcriber(x, lengths), lengths, 3))
    assert [[unit for unit, _ in path] for path in paths] == [[0, 0, 1], [2, 1], [1]]


def test_padding_changes_nothing():
    x, lengths = torch.randn(6, 2, 4), torch.tensor([6, 2])
    other = x.clone()
    other[2:, 1] = torch.nan
    transcriber = model(bidirectional=True).eval()
    torch.testing.assert_close(transcriber(x, lengths)[:2], transcriber(other, lengths)[:2])
