"""Sounds as they might have been."""

import math

import numpy as np
import pytest
import torch

from elman.data.audio.log_mel import LogMel
from elman.data.core.scalers import StandardScaler
from elman.errors import OptionError
from elman.models.audio.augment import Augmentation

FEATURES = LogMel(8000, num_mels=20, frames=2)
SCALE = StandardScaler(tuple(np.linspace(5, 9, 40)), tuple(np.linspace(1, 3, 40)))


def scaled(energies):
    """[T, B, 20] energies, both frames of a step alike, as a model reads them."""
    both = torch.cat((energies, energies), dim=-1).double()
    return (both - torch.tensor(SCALE.mean)) / torch.tensor(SCALE.deviation)


def unscaled(x):
    return (x * torch.tensor(SCALE.deviation) + torch.tensor(SCALE.mean))[..., :20]


def changed(energies, lengths=None, seed=0, **how):
    torch.manual_seed(seed)
    lengths = torch.full((energies.shape[1],), len(energies)) if lengths is None else lengths
    return Augmentation(**how)(scaled(energies), lengths, FEATURES, SCALE)


def test_gain_is_the_same_for_a_whole_sound():
    e = torch.rand(7, 3, 20) * 10
    difference = unscaled(changed(e, gain=6.0)) - e
    assert difference.std(dim=(0, 2)).max() < 1e-5
    shift = difference.mean(dim=(0, 2))
    assert shift.abs().max() < 0.6 * math.log(10) and shift.std() > 0.01


def test_noise_fills_what_is_silent_and_leaves_what_is_loud():
    e = torch.full((50, 2, 20), -10.0)
    e[:, :, 4] = 12.0
    found = unscaled(changed(e, noise=20.0))
    assert (found[..., 4] - 12).abs().max() < 0.1
    below = (12 - found[..., 10]).mean(0) * 10 / math.log(10)
    assert ((below > 18) & (below < 62)).all()


def test_warp_moves_a_peak_by_a_factor():
    e = torch.zeros(3, 64, 20)
    e[..., 10] = 8.0
    found = unscaled(changed(e, warp=0.2))[0]
    places = (found * torch.arange(20)).sum(-1) / found.sum(-1)
    hertz = np.interp(places.numpy(), np.arange(20), FEATURES.centres()) / FEATURES.centres()[10]
    assert 0.75 < hertz.min() < 0.9 and 1.1 < hertz.max() < 1.35
    torch.testing.assert_close(unscaled(changed(e, warp=1e-9)), e.double(), atol=1e-5, rtol=0)


def test_masks_hide_short_stretches_inside_the_sound():
    x = changed(torch.full((30, 40, 20), 20.0), time_mask=5)
    hidden = (x == 0).all(-1)
    assert 0 < hidden.float().mean() < 10 / 30 and hidden.sum(0).max() <= 10
    x = changed(torch.full((4, 40, 20), 20.0), frequency_mask=4)
    hidden = (x == 0).all(0)
    assert 0 < hidden.float().mean() < 8 / 20
    # The bands of both frames are the same.
    assert (hidden[:, :20] == hidden[:, 20:]).all()


def test_past_the_end_stays_nothing():
    lengths = torch.tensor([5, 2, 0])
    all_of_it = {"warp": 0.1, "gain": 3.0, "noise": 10.0, "time_mask": 2, "frequency_mask": 3}
    x = changed(torch.rand(5, 3, 20), lengths, **all_of_it)
    assert torch.isfinite(x).all()
    assert (x[2:, 1] == 0).all() and (x[:, 2] == 0).all() and (x[:, 0] != 0).any()


def test_the_same_seed_changes_the_same():
    e = torch.rand(6, 2, 20)
    one, two, three = (changed(e, seed=s, warp=0.1, gain=5.0, noise=10.0) for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three)


def test_values_that_make_no_sense():
    for wrong in ({"warp": 0.7}, {"gain": -1}, {"noise": 80}, {"time_mask": -2}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            Augmentation(**wrong)
    assert not Augmentation().changes and Augmentation(noise=0).changes
