"""A picture in, a sentence out."""

import pytest
import torch
from torch import nn

from elman.errors import OptionError, ShapeError
from elman.models import Captioner, PictureEncoder
from elman.models.decoding import Decoding, decode
from elman.models.images.augment import Augment

V, START, END = 9, 7, 8
KINDS = [
    {},
    {"attention": None},
    {"attention": None, "feed_context": True, "cell": "gru"},
    {"attention": "general", "input_feeding": True},
    {"attention": "dot", "tie_weights": True, "num_layers": 2},
]


def captioner(encoder=None, **options):
    torch.manual_seed(0)
    encoder = PictureEncoder((16, 16), 32, grid=4) if encoder is None else encoder
    return Captioner(V, encoder, start=START, end=END, **{"hidden_size": 32, **options})


def pictures(count=5, size=(16, 16)):
    generator = torch.Generator().manual_seed(1)
    patches = torch.randint(0, 256, (count, 4, 4, 3), generator=generator, dtype=torch.uint8)
    return patches.repeat_interleave(size[0] // 4, 1).repeat_interleave(size[1] // 4, 2)


def targets(count=5):
    generator = torch.Generator().manual_seed(2)
    lengths = torch.tensor([4, 2, 0, 3, 1, 4, 2, 3])[:count]
    return torch.randint(0, START, (4, count), generator=generator), lengths


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_one_batch_is_learnt_by_heart_and_written_again(options):
    model, picture, (target, lengths) = captioner(**options), pictures(), targets()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(100):
        optimizer.zero_grad()
        loss = model.loss(picture, target, lengths)
        loss.mean.backward()
        optimizer.step()
    assert loss.mean < 0.2 and loss.count == int((lengths + 1).sum())
    model.eval()
    found = decode(
        model.step,
        model.start_state(picture),
        batch_size=5,
        start=START,
        end=END,
        decoding=Decoding(beams=3, max_length=8),
    )
    for b, (best,) in enumerate(found):
        assert best.content == target[: lengths[b], b].tolist()
        assert (best.attention is None) == (options.get("attention", "additive") is None)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_steps_give_what_all_of_them_at_once_give(options):
    model, picture, (target, _) = captioner(**options).eval(), pictures(), targets()
    with torch.no_grad():
        logits, weights = model(picture, target)
        state, last = model.start_state(picture), torch.full((5,), START)
        for t in range(5):
            step, state, looked = model.step(last, state)
            assert torch.allclose(step, logits[t], atol=1e-5)
            assert weights is None or torch.allclose(looked, weights[t], atol=1e-5)
            last = target[t] if t < 4 else last


def test_several_captions_of_a_picture_are_as_the_picture_several_times():
    model, picture, (target, lengths) = captioner().eval(), pictures(3), targets(8)
    rows = torch.tensor([0, 0, 2, 1, 2, 2, 0, 1])
    once = model.loss(picture, target, lengths, rows)
    often = model.loss(picture[rows], target, lengths)
    assert once.count == often.count
    assert torch.allclose(once.total, often.total, rtol=1e-5)
    once.total.backward()
    ours = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    often.total.backward()
    for a, b in zip(ours, model.parameters(), strict=True):
        assert torch.allclose(a, b.grad, rtol=1e-3, atol=1e-5)


def test_bytes_and_shares_of_one_are_one_picture():
    model, picture = captioner().eval(), pictures()
    assert torch.equal(model.features(picture), model.features(picture.float() / 255))


class Normed(nn.Module):
    """An encoder of one's own with something that training changes."""

    def __init__(self, form):
        super().__init__()
        self.conv, self.norm, self.form = nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm2d(6), form

    def forward(self, x):
        grid = self.norm(self.conv(x))
        if self.form == "vector":
            return grid.mean(dim=(2, 3))
        return grid.flatten(2).transpose(1, 2) if self.form == "tokens" else grid


@pytest.mark.parametrize(("form", "places"), [("grid", 16), ("tokens", 16), ("vector", 1)])
def test_any_module_is_an_encoder(form, places):
    model = captioner(Normed(form), feature_size=6)
    features = model.features(pictures())
    assert features.shape == (places, 5, 6)
    model.loss(pictures(), *targets()).total.backward()
    assert model.encoder.conv.weight.grad.abs().sum() > 0
    with pytest.raises(OptionError, match="Normed has no output_size: give feature_size"):
        captioner(Normed(form))
    with pytest.raises(ShapeError, match=r"C = 5, got \[5, "):
        captioner(Normed(form), feature_size=5).features(pictures())


def test_the_places_of_a_grid_are_in_the_order_of_lines():
    grid = Normed("grid").eval()
    places = captioner(grid, feature_size=6).eval().features(pictures())
    model = captioner(grid, feature_size=6).eval()
    x = ((pictures() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    assert torch.allclose(places[4 * 1 + 2], grid(x)[:, :, 1, 2], atol=1e-6)
    grid.form = "tokens"
    assert torch.equal(model.features(pictures()), places)


def test_a_frozen_encoder_stays_as_it_is():
    model = captioner(Normed("grid"), feature_size=6, frozen=True).train()
    before = {k: v.clone() for k, v in model.encoder.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.1)
    model.loss(pictures(), *targets()).total.backward()
    optimizer.step()
    after = model.encoder.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert not model.encoder.training and model.decoder.training
    assert all(p.grad is not None for p in model.decoder.parameters())


@pytest.mark.parametrize("side", [8, 20, 32, 64, 100, 224])
def test_pictures_of_any_size_come_to_a_grid(side):
    encoder = PictureEncoder((side, side), 32, grid=8)
    found = encoder(torch.rand(1, 3, side, side))
    assert found.shape[1] == encoder.output_size == 32
    assert 4 <= found.shape[2] <= 8 and found.shape[2] == found.shape[3]
    wide = PictureEncoder((side, 2 * side), 32, grid=8)(torch.rand(1, 3, side, 2 * side))
    assert wide.shape[3] <= 8 and abs(wide.shape[3] - 2 * wide.shape[2]) <= 1


def test_a_picture_is_read_alike_alone_and_among_others():
    encoder, x = PictureEncoder((16, 16), 16, grid=4), torch.rand(4, 3, 16, 16)
    encoder(x)
    encoder.eval()
    assert torch.allclose(encoder(x)[2:3], encoder(x[2:3]), atol=1e-5)


def test_one_picture_of_one_place_can_be_learnt_from():
    encoder = PictureEncoder((4, 4), 16, grid=1)
    found = encoder(torch.rand(1, 3, 4, 4))
    assert found.shape == (1, 16, 1, 1) and found.isfinite().all()
    found.sum().backward()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"feed_context": True}, OptionError, "for a model without attention"),
        ({"attention": "none"}, OptionError, "unknown kind of attention"),
        ({"attention": "dot", "hidden_size": 17}, OptionError, "must have one size"),
        ({"attention": None, "input_feeding": True}, OptionError, "choose a kind of attention"),
        ({"label_smoothing": 1.0}, OptionError, "label_smoothing must be a probability"),
    ],
)
def test_what_makes_no_sense_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        captioner(**options)


def test_shapes_that_do_not_fit_are_refused():
    model, (target, lengths) = captioner(), targets()
    with pytest.raises(ShapeError, match="5 targets and 4 pictures"):
        model.loss(pictures(4), target, lengths)
    with pytest.raises(ShapeError, match="5 targets and 2 rows"):
        model.loss(pictures(4), target, lengths, torch.tensor([0, 1]))
    with pytest.raises(ShapeError, match=r"must be \[B, H, W, 3\]"):
        model.features(pictures()[..., :1])
    with pytest.raises(OptionError, match="start must be an id"):
        Captioner(V, PictureEncoder(), start=V, end=0)


# What training does to pictures


def test_nothing_is_changed_where_nothing_is_asked_for():
    picture = pictures()
    assert torch.equal(Augment()(picture), picture / 255)


def test_one_seed_gives_one_change_and_each_picture_its_own():
    augment, picture = Augment(0.2, 0.2, True, 0.3), pictures(1).expand(6, -1, -1, -1)
    torch.manual_seed(3)
    one = augment(picture)
    torch.manual_seed(3)
    assert torch.equal(one, augment(picture))
    assert not torch.equal(one, augment(picture))
    assert len({tuple(p.flatten().tolist()) for p in one}) == 6
    assert one.shape == picture.shape and one.min() >= 0 and one.max() <= 1


def test_half_of_the_pictures_are_mirrored():
    torch.manual_seed(0)
    picture = pictures(1).expand(200, -1, -1, -1)
    found, plain = Augment(flip=True)(picture), picture[0] / 255
    mirrored = [torch.allclose(p, plain.flip(1), atol=1e-4) for p in found]
    same = [torch.allclose(p, plain, atol=1e-4) for p in found]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 70 < sum(mirrored) < 130


def test_a_moved_point_is_where_its_picture_was_moved_to():
    picture = torch.zeros(64, 21, 21, 1)
    picture[:, 10, 10] = 1
    torch.manual_seed(0)
    mass = Augment(shift=0.2)(picture)[..., 0]
    rows = (mass.sum(2) @ torch.arange(21.0)) / mass.sum((1, 2))
    columns = (mass.sum(1) @ torch.arange(21.0)) / mass.sum((1, 2))
    for found in (rows, columns):
        assert (found - 10).abs().max() <= 0.2 * 21 + 0.01
        assert found.min() < 7.5 and found.max() > 12.5
    assert mass.sum((1, 2)).sub(1).abs().max() < 1e-3


@pytest.mark.parametrize("options", [{"shift": -0.1}, {"zoom": 1.0}, {"jitter": float("nan")}])
def test_changes_lie_between_nothing_and_all(options):
    with pytest.raises(OptionError, match="must be 0 or above and below 1"):
        Augment(**options)
