import pytest

from elman.train.options import TrainOptions
from elman.train.schedule import exhausted, learning_rate


def rate(schedule, step=10**6, epoch=0, progress=0.0, history=(), **options):
    chosen = TrainOptions(schedule=schedule, learning_rate=1.0, **options)
    return learning_rate(chosen, step, epoch, progress, history)


def test_cosine_falls_from_the_rate_to_a_hundredth():
    assert rate("cosine") == pytest.approx(1.0)
    assert rate("cosine", progress=0.5) == pytest.approx(0.505)
    assert rate("cosine", progress=1.0) == pytest.approx(0.01)


def test_halving_begins_after_so_many_epochs():
    found = [rate("halving", epoch=e, halve_after=4) for e in range(7)]
    assert found == [1, 1, 1, 1, 0.5, 0.25, 0.125]


def test_plateau_halves_for_each_validation_without_a_better_loss():
    assert rate("plateau", history=[3.0, 2.0, 1.0]) == 1.0
    assert rate("plateau", history=[3.0, 2.0, 2.5, 2.0, 1.0]) == 0.25


def test_warmup_rises_in_a_line():
    found = [rate("constant", step=s, warmup=4) for s in range(6)]
    assert found == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_patience_counts_validations_without_a_better_loss():
    assert not exhausted([3.0, 2.0, 2.5], 2)
    assert exhausted([3.0, 2.0, 2.5, 2.1], 2)
    assert not exhausted([3.0, 2.0, 2.5, 1.9], 2)
    assert not exhausted([3.0] * 9, None)
