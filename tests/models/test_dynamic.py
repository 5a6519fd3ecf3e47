import pytest
import torch

from elman.errors import OptionError
from elman.models import LanguageModel
from elman.models.text.dynamic import Dynamic, DynamicModel


def tokens(T, seed=0):
    return torch.randint(7, (T, 1), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LanguageModel(7, 6, tie_weights=True, dropout=0.5)


TRAINING = [tokens(6, seed)[:, 0] for seed in (3, 4)]


def test_two_segments_follow_the_rule(model, float64):
    model = model.double()
    x = tokens(9)
    learning = DynamicModel(model, TRAINING, Dynamic(rate=0.01, decay=0.3, segment=4))
    assert model.training and not learning.model.training
    first, state = learning.loss(x[:5], None)
    second, _ = learning.loss(x[4:], state)

    # The same by hand.
    model.eval()
    weights = list(model.parameters())
    start = [w.detach().clone() for w in weights]

    def gradient(ids, state=None):
        loss = model.loss(ids[:-1], ids[1:], state)
        return loss, torch.autograd.grad(loss.mean, weights)

    each = (gradient(t[:, None])[1] for t in TRAINING)
    squares = [sum(g**2 for g in two) / 2 for two in zip(*each, strict=True)]
    spread = [s.sqrt() for s in squares]
    mean = torch.cat([s.flatten() for s in spread]).mean()
    loss, g = gradient(x[:5])
    assert first == pytest.approx(loss.total.item())
    with torch.no_grad():
        for w, w0, g_w, s in zip(weights, start, g, spread, strict=True):
            w.add_((0.3 * s / mean).clamp(max=1) * (w0 - w) - 0.01 * g_w / (s + 1e-8))
    state = tuple(tuple(part.detach() for part in layer) for layer in loss.state)
    assert second == pytest.approx(gradient(x[4:], state)[0].total.item())


def test_without_a_rate_it_is_the_model_itself(model):
    x = tokens(41)
    learning = DynamicModel(model, TRAINING, Dynamic(rate=0.0, segment=8))
    state, total = None, 0.0
    for begin in range(0, 40, 8):
        loss, state = learning.loss(x[begin : begin + 9], state)
        total += loss
    assert total == pytest.approx(model.eval().loss(x[:-1], x[1:]).total.item(), rel=1e-5)


def test_what_repeats_is_learnt_and_the_model_left_as_it_was(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learning = DynamicModel(model, TRAINING, Dynamic(rate=0.01))
    x = tokens(21).repeat(3, 1)[:61]
    losses = [learning.loss(x[begin : begin + 21], None)[0] for begin in (0, 20, 40)]
    assert losses[2] < losses[0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("wrong", [{"rate": -1.0}, {"decay": float("nan")}, {"segment": 0}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Dynamic(**wrong)
