import pytest
import torch

from elman.errors import OptionError, RunError
from elman.models.common.sampling import sample

LOGITS = torch.tensor([0.5, 0.1, 0.3, 0.1]).log()


def drawn(count=4000, **options):
    generator = torch.Generator().manual_seed(0)
    logits = LOGITS.expand(count, -1)
    return sample(logits, generator=generator, **options).bincount(minlength=4) / count


def test_top_k_breaks_ties():
    ties = torch.tensor([[1.0, 1.0, 0.0]]).expand(200, -1)
    assert len(sample(ties, top_k=1).unique()) == 1


def test_the_coldest_temperature_takes_the_likeliest():
    assert sample(LOGITS, temperature=1e-300).item() == 0


def test_predictions_that_are_not_finite_are_said():
    for broken in (torch.nan, torch.inf):
        with pytest.raises(RunError, match="not finite"):
            sample(torch.tensor([0.0, broken]))


def test_zero_temperature_takes_the_likeliest():
    assert sample(LOGITS, temperature=0).item() == 0


def test_draws_follow_the_distribution():
    assert torch.allclose(drawn(), torch.tensor([0.5, 0.1, 0.3, 0.1]), atol=0.03)


def test_temperature_sharpens():
    squared = torch.tensor([0.25, 0.01, 0.09, 0.01])
    assert torch.allclose(drawn(temperature=0.5), squared / squared.sum(), atol=0.03)


def test_top_k_keeps_the_k_likeliest():
    assert torch.allclose(drawn(top_k=2), torch.tensor([0.625, 0, 0.375, 0]), atol=0.03)
    assert torch.allclose(drawn(top_k=99), drawn(), atol=0)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.4, [0]), (0.6, [0, 2]), (0.75, [0, 2]), (0.95, [0, 1, 2, 3])]
)
def test_top_p_keeps_the_fewest_that_sum_to_p(top_p, kept):
    assert drawn(top_p=top_p).nonzero().flatten().tolist() == kept


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_p": 0.0},
    ],
)
def test_impossible_values_are_refused(options):
    with pytest.raises(OptionError):
        sample(LOGITS, **options)
