import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from elman.data.text.corpus import Streams
from elman.errors import OptionError, TrainingError
from elman.models import LanguageModel
from elman.train.average import running_mean
from elman.train.module import SequenceModule
from elman.train.options import TrainOptions


def module(**options):
    streams = Streams(torch.arange(50).numpy() % 7, 2, 5)
    task = SimpleNamespace(options=TrainOptions(**options))
    built = SequenceModule(task, LanguageModel(7, 4), streams, streams)
    torch.manual_seed(0)
    for p in built.model.parameters():
        p.grad = torch.randn_like(p)
    return built


def gradient(built):
    return torch.cat([p.grad.flatten() for p in built.model.parameters()])


@pytest.mark.parametrize("clip", [0.5, 3.0])
def test_clipping_holds_the_norm_and_keeps_the_direction(clip):
    built = module(clip=clip)
    before = gradient(built)
    built.configure_gradient_clipping(None)
    assert built.grad_norm == pytest.approx(before.norm().item())
    assert gradient(built).norm().item() == pytest.approx(clip, rel=1e-4)
    assert torch.allclose(gradient(built), before * clip / before.norm(), rtol=1e-4)


def test_a_gradient_below_the_norm_is_left_alone():
    built = module(clip=1e4)
    before = gradient(built)
    built.configure_gradient_clipping(None)
    assert torch.equal(gradient(built), before)


def test_clipping_by_value_holds_every_element():
    built = module(clip=0.0, clip_value=0.1)
    before = gradient(built)
    built.configure_gradient_clipping(None)
    assert built.grad_norm == pytest.approx(before.norm().item())
    assert torch.equal(gradient(built), before.clamp(-0.1, 0.1))


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change():
    built = module()
    next(built.model.parameters()).grad[0] = math.inf
    with pytest.raises(TrainingError, match="gradient norm became inf after step 0"):
        built.configure_gradient_clipping(None)


def test_a_running_mean_of_weights():
    model = nn.Linear(2, 1, bias=False)
    average, expected = running_mean(model, 0.3), None
    for n in range(20):
        nn.init.normal_(model.weight)
        average.update_parameters(model)
        kept = min(0.3, (1 + n) / (10 + n)) if n else 0.0
        old = torch.zeros(1, 2) if expected is None else expected
        expected = kept * old + (1 - kept) * model.weight.detach()
        assert torch.allclose(average.module.weight, expected)
    assert model.weight.requires_grad and not average.module.weight.requires_grad


def test_the_mean_is_judged_and_kept_where_it_is_asked_for():
    plain, averaged = module(), module(ema_decay=0.9)
    assert plain.eval_model is plain.model and averaged.eval_model is averaged.average.module
    with pytest.raises(OptionError, match="ema_decay must be 0 or above and below 1"):
        module(ema_decay=1.0)
