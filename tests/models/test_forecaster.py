import math

import pytest
import torch

from elman.errors import OptionError, ShapeError
from elman.models import AutoregressiveForecaster, Forecaster, output_named
from elman.models.series.distribution_head import OUTPUTS, Normal, Quantiles, Student

LEVELS = (0.1, 0.5, 0.9)


def waves(count=24, context=12, horizon=4, channels=1):
    """Sine waves at random phases and heights, and what comes next."""
    draw = torch.Generator().manual_seed(0)
    phase = 2 * math.pi * torch.rand(count, channels, generator=draw)
    height = 5 * torch.randn(count, channels, generator=draw)
    t = torch.arange(context + horizon)[:, None, None]
    y = torch.sin(2 * math.pi * t / 8 + phase) + height
    return y[:context], y[context:]


def fitted(model, steps=80, rate=0.01, **more):
    y, target = waves(channels=model.channels)
    optimiser = torch.optim.AdamW(model.parameters(), rate)
    first = last = None
    for _ in range(steps):
        loss = model.loss(y, target, **more).mean
        first = loss.item() if first is None else first
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        last = loss.item()
    return first, last, model.eval()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patch": 4, "level": "mean", "scaled": True, "linear": False},
        {"decoder": "recurrent", "cell": "gru"},
        {"change_from": "season", "season": 8, "level": "none", "channels": 2},
    ],
    ids=str,
)
def test_one_batch_is_learnt_by_heart(options):
    torch.manual_seed(0)
    output = output_named("mean")
    model = Forecaster(4, 12, output=output, hidden_size=24, unseen=0.0, **options)
    first, last, model = fitted(model)
    assert last < 0.02 < first or last < first / 20


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_is_learnt_and_has_a_point(name):
    torch.manual_seed(0)
    model = Forecaster(4, 12, output=output_named(name, LEVELS), hidden_size=16)
    first, last, model = fitted(model, 60)
    assert last < first - 0.1
    y, target = waves()
    found = model.forecast(y, levels=LEVELS)
    assert (found.point - target).abs().mean() < 0.35
    if name in ("mean", "median"):
        assert found.quantiles is None
    else:
        assert found.quantiles.shape == (4, 24, 1, 3)
        assert (found.quantiles.diff(dim=-1) >= 0).all()


def test_a_level_shift_moves_the_forecast_and_nothing_else():
    y, _ = waves()
    for options in ({"level": "last"}, {"level": "mean"}, {"level": "mean", "scaled": True}):
        model = Forecaster(4, 12, output=output_named("mean"), hidden_size=8, **options).eval()
        moved = model.forecast(y + 100).point
        assert torch.allclose(moved, model.forecast(y).point + 100, atol=2e-3)
    model = Forecaster(4, 12, output=output_named("mean"), hidden_size=8, level="none").eval()
    assert not torch.allclose(model.forecast(y + 100).point, model.forecast(y).point + 100, atol=1)


def test_covariates_and_series_matter_and_the_future_of_x_too():
    y, _ = waves()
    x, series = torch.randn(16, 24, 2), torch.arange(24) % 3 + 1
    for decoder in ("direct", "recurrent"):
        model = Forecaster(
            4, 12, output=output_named("mean"), covariates=2, num_series=3, decoder=decoder
        ).eval()
        base = model.forecast(y, x, series).point
        assert not torch.allclose(base, model.forecast(y, x, series % 3 + 1).point)
        other = x.clone()
        other[13:] += 1
        assert not torch.allclose(base, model.forecast(y, other, series).point)


def test_a_stream_says_what_the_whole_window_says():
    y, _ = waves()
    model = Forecaster(4, 12, output=output_named("mean"), hidden_size=8, level="none").eval()
    assert model.carries and not Forecaster(4, 12, output=output_named("mean")).carries
    stream = model.stream(24)
    for t in range(12):
        window = torch.cat((y[:1].expand(11 - t, -1, -1), y[: t + 1]))
        found = model.from_stream(stream, window)
    assert torch.allclose(found, model(y), atol=1e-5)


@pytest.mark.parametrize("name", ["mean", "normal", "student"])
def test_an_autoregressive_model_learns_and_draws(name):
    torch.manual_seed(0)
    model = AutoregressiveForecaster(
        4, 12, output=output_named(name), hidden_size=24, level="mean", num_samples=50
    )
    first, last, model = fitted(model, 120)
    assert last < first
    y, target = waves()
    draw = [torch.Generator().manual_seed(5) for _ in range(2)]
    found = model.forecast(y, levels=LEVELS, generator=draw[0])
    again = model.forecast(y, levels=LEVELS, generator=draw[1])
    assert torch.equal(found.point, again.point)
    assert (found.point - target).abs().mean() < 0.5
    if name == "mean":
        assert found.quantiles is None
    else:
        assert found.quantiles.shape == (4, 24, 1, 3)
        spread = found.quantiles[..., 2] - found.quantiles[..., 0]
        assert (spread > 0).all()


def test_a_path_is_the_chain_that_the_loss_speaks_of():
    """With its own values fed back as truth, the teacher-forced means are those of the path."""
    torch.manual_seed(0)
    y, _ = waves()
    x = torch.randn(16, 24, 2)
    model = AutoregressiveForecaster(4, 12, output=output_named("mean"), covariates=2).eval()
    (path,) = model.draw(y, x)
    assert model.loss(y, path, x).mean.item() < 1e-10


def test_distributions_are_those_of_torch():
    y = torch.linspace(-3, 3, 7, dtype=torch.float64)
    o = torch.randn(7, 3, dtype=torch.float64)
    level, scale = torch.zeros(7).double(), torch.ones(7).double()
    placed = Student().placed(o, level, scale)
    m, d, n = placed.unbind(-1)
    wanted = -torch.distributions.StudentT(n, m, d).log_prob(y)
    assert torch.allclose(Student().loss(placed, y), wanted)
    placed = Normal().placed(o[:, :2], level, scale)
    m, d = placed.unbind(-1)
    assert torch.allclose(Normal().loss(placed, y), -torch.distributions.Normal(m, d).log_prob(y))
    q = Normal().quantiles(placed, LEVELS)
    assert torch.allclose(torch.distributions.Normal(m, d).cdf(q[:, 2]), torch.tensor(0.9).double())


def test_quantiles_of_students_t():
    # Two, and three degrees of freedom; printed tables have 2.920, 2.353 and 4.303.
    o = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 3.0]])
    found = Student().quantiles(o, [0.5, 0.95, 0.975])
    assert found[0].tolist() == pytest.approx([0, 2.920, 4.303], rel=0.012)
    assert found[1, 1].item() == pytest.approx(2.353, rel=0.005)
    drawn = Student().draw(o[1].expand(200_000, 3), torch.Generator().manual_seed(0))
    assert drawn.quantile(0.95).item() == pytest.approx(2.353, rel=0.03)


def test_the_pinball_loss_is_least_at_the_quantile():
    y = torch.arange(101.0)[:, None]
    output = Quantiles([0.1, 0.5])
    losses = [
        output.loss(torch.tensor([[float(q), 50.0]]).expand(101, 1, 2), y).sum() for q in range(101)
    ]
    assert int(torch.stack(losses).argmin()) == 10
    between = output.quantiles(torch.tensor([[10.0, 50.0]]), [0.05, 0.3, 0.5, 0.9])
    assert between[0].tolist() == pytest.approx([10, 30, 50, 50])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"patch": 5}, "context 12 must be a multiple of patch 5"),
        ({"level": "lst"}, "did you mean 'last'"),
        ({"change_from": "season", "season": 13}, "a context of 13 steps"),
        ({"decoder": "autoregressive"}, "unknown decoder"),
    ],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(OptionError, match=said):
        Forecaster(4, 12, output=output_named("mean"), **options)


def test_wrong_shapes_and_outputs():
    model = Forecaster(4, 12, output=output_named("mean"), covariates=1)
    with pytest.raises(ShapeError, match=r"y must be \[T, B, C\] = \[12, B, 1\]"):
        model(torch.randn(11, 2, 1), torch.randn(16, 2, 1))
    with pytest.raises(ShapeError, match=r"x must be .* = \[16, 2, 1\], got None"):
        model(torch.randn(12, 2, 1))
    with pytest.raises(OptionError, match="levels must rise"):
        output_named("quantiles", [0.9, 0.1])
    with pytest.raises(OptionError, match="feeds what it draws"):
        AutoregressiveForecaster(4, 12, output=output_named("quantiles"))
