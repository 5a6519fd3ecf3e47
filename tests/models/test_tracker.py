import pytest
import torch

from elman.errors import OptionError, ShapeError
from elman.models.tracks.tracker import Tracker, constant_velocity

WAYS = [
    {"decoder": decoder, "coordinates": coordinates, "change_from": change}
    for decoder in ("direct", "recurrent")
    for coordinates, change in (("offsets", "velocity"), ("absolute", "box"), ("both", "velocity"))
]


def tracks(count=5, steps=7):
    torch.manual_seed(0)
    boxes = torch.rand(steps, count, 4) * 10 + torch.tensor([50.0, 60, 20, 40])
    return boxes + torch.arange(steps)[:, None, None]


def learnt(**how):
    """A model whose every parameter counts, the last layer's too."""
    torch.manual_seed(1)
    model = Tracker(3, hidden_size=8, **how)
    torch.nn.init.normal_(model.head.weight)
    return model.eval()


def test_an_untrained_model_says_constant_velocity():
    past = tracks()
    lengths = torch.tensor([7, 1, 2, 5, 7])
    found = Tracker(3)(past, lengths)
    assert torch.allclose(found, constant_velocity(past, lengths, 3))
    assert torch.equal(found[2, 1], past[0, 1])  # of one box no velocity is known
    assert torch.allclose(found[1, 2], past[1, 2] + 2 * (past[1, 2] - past[0, 2]))
    mean = Tracker(2, velocity_steps=4)(past)
    assert torch.allclose(mean[0], past[-1] + (past[-1] - past[-5]) / 4)
    assert torch.equal(Tracker(2, change_from="box")(past)[1], past[-1])


@pytest.mark.parametrize("how", WAYS)
def test_lengths_are_those_of_the_tracks_alone(how):
    model, past = learnt(**how), tracks()
    lengths = torch.tensor([7, 1, 2, 5, 7])
    dirty = past.clone()
    for b, length in enumerate(lengths):
        dirty[length:, b] = torch.nan
    found = model(dirty, lengths)
    for b, length in enumerate(lengths):
        assert torch.allclose(found[:, b], model(past[:length, b : b + 1])[:, 0], atol=1e-4)


@pytest.mark.parametrize("how", WAYS)
def test_a_batch_is_learnt_by_heart(how):
    torch.manual_seed(0)
    past, future = tracks(steps=6), tracks(steps=9)[6:] + torch.randn(3, 5, 4)
    model = Tracker(3, hidden_size=32, **how, mean=[55, 65, 25, 45], deviation=[4.0] * 4)
    first = float(model.loss(past, None, future).mean)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(300):
        optimiser.zero_grad()
        model.loss(past, None, future).mean.backward()
        optimiser.step()
    assert float(model.loss(past, None, future).mean) < 0.15 * first


def test_the_loss_is_in_heights_and_counts_boxes():
    past = tracks()
    future = constant_velocity(past, torch.full((5,), 7), 3) + 2.0
    loss = Tracker(3).loss(past, None, future)
    assert loss.count == 15
    assert float(loss.total) == pytest.approx(float((8 / past[-1, :, 3]).sum() * 3), rel=1e-5)


def test_what_no_tracker_can_be_is_refused():
    for how, message in (
        ({"decoder": "direkt"}, "did you mean 'direct'"),
        ({"coordinates": "polar"}, "unknown coordinates"),
        ({"change_from": "x"}, "unknown change_from"),
        ({"velocity_steps": 0}, "velocity_steps"),
        ({"deviation": [1, 0, 1, 1]}, "deviation must be four numbers"),
        ({"mean": [1]}, "mean must be four numbers"),
    ):
        with pytest.raises(OptionError, match=message):
            Tracker(3, **how)
    model = Tracker(3)
    for past, lengths, message in (
        (torch.zeros(0, 2, 4), None, "T above 0"),
        (torch.zeros(3, 2, 3), None, r"\[T, B, 4\]"),
        (torch.ones(3, 2, 4), torch.tensor([3, 0]), "a box at least"),
    ):
        with pytest.raises(ShapeError, match=message):
            model(past, lengths)
    with pytest.raises(ShapeError, match="future must be"):
        model.loss(torch.ones(3, 2, 4), None, torch.ones(2, 2, 4))
