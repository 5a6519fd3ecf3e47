import math

import numpy as np
import pytest
import torch

from elman.errors import OptionError, ShapeError
from elman.models.images.pixels import PixelModel

SHAPES = [((5, 4, 1), 2), ((3, 4, 3), 4), ((1, 6, 1), 256)]
ORDERS = [None, 3]


def model(shape, levels, seed=0, **options):
    torch.manual_seed(seed)
    options = {"hidden_size": 7, "embedding_size": 5, **options}
    return PixelModel(shape, levels, **options).double().eval()


def drawn(shape, levels, count=3, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(levels, (math.prod(shape), count), generator=draw)


@pytest.mark.parametrize(("shape", "levels"), SHAPES)
@pytest.mark.parametrize("permute", ORDERS)
@pytest.mark.parametrize("context", [0, 1, 3])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_value_changes_nothing_but_what_is_told_after_it(shape, levels, permute, context, layers):
    net = model(shape, levels, permute=permute, context=context, num_layers=layers)
    x = drawn(shape, levels)
    before = net.nats(x)
    when = net.back
    for value in range(net.size):
        changed = x.clone()
        changed[value] = (x[value] + 1) % levels
        same = net.nats(changed) == before
        assert same[when < when[value]].all()  # what was told before it
        assert not same[when == when[value]].all()  # itself is another value


@pytest.mark.parametrize("context", [0, 2])
def test_what_is_near_reaches_far_in_one_step(context):
    """The value above is W steps back; the window has it at once."""
    net = model((6, 6, 1), 2, context=context)
    x = drawn((6, 6, 1), 2)
    row = net._windows(x[net.order])[14, 0]  # row 2, column 2
    assert len(row) == (12 if context else 0)
    if context:
        value = 2 * x[:, 0].double() - 1
        wanted = [*value[0:5], *value[6:11], *value[12:14]]
        assert row.tolist() == [float(v) for v in wanted]


@pytest.mark.parametrize("permute", ORDERS)
def test_the_probabilities_of_all_pictures_sum_to_one(permute):
    net = model((2, 2, 1), 3, permute=permute, context=1)
    every = torch.cartesian_prod(*[torch.arange(3)] * 4).T
    assert (-net.nats(every).sum(0)).exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("shape", "levels"), SHAPES)
@pytest.mark.parametrize("permute", ORDERS)
@pytest.mark.parametrize("context", [0, 2])
def test_step_by_step_has_the_likelihood_of_all_at_once(shape, levels, permute, context):
    from elman.models.images.pixels import Telling

    net = model(shape, levels, permute=permute, context=context, num_layers=2)
    x = drawn(shape, levels)
    telling, each = Telling(net, 3), []
    with torch.no_grad():
        for value in x[net.order]:
            each.append(-telling.logits().log_softmax(-1).gather(1, value[:, None])[:, 0])
            telling.tell(value)
    torch.testing.assert_close(torch.stack(each)[net.back], net.nats(x))


@pytest.mark.parametrize("permute", ORDERS)
def test_what_is_given_is_kept_and_the_rest_drawn(permute):
    net = model((4, 4, 1), 8, permute=permute)
    x = drawn((4, 4, 1), 8)
    draw = torch.Generator().manual_seed(0)
    found = net.generate(3, given=x, known=9, generator=draw)
    kept = net.order[:9]
    assert (found[kept] == x[kept]).all()
    assert not (found == x).all()
    assert (net.generate(3, given=x, known=16) == x).all()
    again = net.generate(3, given=x, known=9, generator=torch.Generator().manual_seed(0))
    assert (again == found).all()


def test_a_batch_is_learnt_by_heart_and_drawn():
    net = model((4, 4, 1), 2, hidden_size=16).float().train()
    one = drawn((4, 4, 1), 2, count=1).expand(-1, 8)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss = net.loss(one)
        loss.mean.backward()
        optimizer.step()
    assert loss.mean < 0.1
    assert float(net.nats(one).sum(0).mean()) < 0.1
    assert (net.generate(4, generator=torch.Generator().manual_seed(0)) == one[:, :4]).all()
    assert net.training


def test_the_loss_is_that_of_the_values():
    net = model((3, 3, 1), 4)
    x = drawn((3, 3, 1), 4)
    loss = net.loss(x)
    assert loss.count == 3
    torch.testing.assert_close(loss.total.detach(), net.nats(x).sum())


def test_what_is_no_picture_is_refused():
    net = model((2, 3, 1), 4)
    for wrong in (torch.zeros(5, 2).long(), torch.zeros(6, 2), torch.zeros(6).long()):
        with pytest.raises(ShapeError, match=r"pictures must be whole numbers \[2 \* 3 \* 1, B\]"):
            net.nats(wrong)
    with pytest.raises(ShapeError, match=r"levels must lie in 0 \.\.\. 3, got 0 \.\.\. 4"):
        net.nats(torch.tensor([[0, 1, 2, 3, 4, 0]]).T)
    for options in ({"levels": 1}, {"levels": 257}, {"levels": 4, "context": -1}):
        with pytest.raises(OptionError):
            PixelModel((2, 2, 1), **options)
    with pytest.raises(OptionError, match="known must lie in 0"):
        net.generate(2, known=3)
    with pytest.raises(ShapeError, match=r"given must be \[D, 2\]"):
        net.generate(2, given=torch.zeros(6, 3).long(), known=3)


def test_a_window_of_another_order_has_what_was_told_on_every_side():
    net = model((5, 5, 1), 2, permute=0, context=1)
    known = net.known.bool()
    when = net.back.view(5, 5).numpy()
    for step, place in enumerate(net.order.tolist()):
        r, c = divmod(place, 5)
        around = [
            when[i, j]
            for i in range(max(r - 1, 0), min(r + 2, 5))
            for j in range(max(c - 1, 0), min(c + 2, 5))
        ]
        wanted = sorted(int(t) for t in around if t < step)
        assert sorted(net.window[step][known[step]].tolist()) == wanted
    assert np.array_equal(np.sort(net.order.numpy()), np.arange(25))
