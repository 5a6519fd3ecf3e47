import pytest
import torch
from torch import nn

from elman.errors import OptionError, ShapeError
from elman.models import CRF, Tagger
from elman.models.common.words import CharacterEncoder
from elman.models.text.spans import forbidden_by_bio
from tests.models.inputs import (
    LENGTHS,
    VOCAB,
    B,
    T,
    generator,
    learnt,
    loss_gradients,
    outside,
    tokens,
    words,
)
from tests.support import assert_close, assert_equal

K = 3
SMALL = {"hidden_size": 5, "embedding_size": 3}
SPELT = {"character_vocab_size": 7, "character_embedding_size": 2, "character_hidden_size": 2}
LABEL = torch.tensor([1, 0, 1, 0])
VALID = ~outside()


def tagger(**options):
    torch.manual_seed(0)
    return Tagger(K, **{"vocab_size": VOCAB, **SMALL, **options})


def tags(seed=5):
    return torch.randint(K, (T, B), generator=generator(seed))


def without_padding(characters, word_lengths, b, n):
    """The characters and word lengths of one sequence."""
    own = word_lengths[:n, b : b + 1]
    return characters[: int(own.sum()), b : b + 1], own


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("spelt", [False, True])
@pytest.mark.parametrize("crf", [False, True])
@pytest.mark.parametrize("more", [{}, {"window": 5}, {"global_context": True}])
def test_a_batch_is_its_sequences_one_at_a_time(bidirectional, spelt, crf, more):
    options = {"bidirectional": bidirectional, "crf": crf, "num_labels": 2, **more}
    model = tagger(**options, **(SPELT if spelt else {}))
    x, y, spelling = tokens(), tags(), words() if spelt else ()
    together = model.loss(x, LENGTHS, y, LABEL, *spelling)
    emissions, logits = model(x, LENGTHS, *spelling)
    path, label = model.decode(x, LENGTHS, *spelling)
    total = 0
    for b, n in enumerate(LENGTHS.tolist()):
        alone = without_padding(*spelling, b, n) if spelt else ()
        one, its_logits = model(x[:n, b : b + 1], None, *alone)
        assert_close(emissions[:n, b], one[:, 0])
        assert_close(logits[b], its_logits[0])
        its_path, its_label = model.decode(x[:n, b : b + 1], None, *alone)
        assert_equal(path[:n, b], its_path[:, 0])
        assert not path[n:, b].any()
        assert label[b] == its_label[0]
        loss = model.loss(x[:n, b : b + 1], None, y[:n, b : b + 1], LABEL[b : b + 1], *alone)
        total = total + loss.total
    assert_close(together.total, total)
    assert together.count == LENGTHS.sum()


def test_tags_are_told_of_the_whole():
    model = tagger(global_context=True, pooling="mean", dropout=0.3).eval()
    x = tokens()
    hidden = model.reader(x, LENGTHS)
    mean = hidden.sum(dim=0) / LENGTHS[:, None].clamp(min=1)
    emissions, label = model(x, LENGTHS)
    assert_close(emissions, model.output(hidden) + mean @ model.context_output.weight.T)
    assert label is None


@pytest.mark.parametrize("crf", [False, True])
@pytest.mark.parametrize("spelt", [False, True])
@pytest.mark.parametrize("more", [{}, {"window": 3}, {"global_context": True}])
def test_padding_changes_nothing(crf, spelt, more):
    options = {"crf": crf, "num_labels": 2, "num_layers": 2, **more}
    model = tagger(**options, **(SPELT if spelt else {}))
    spelling = words() if spelt else ()
    found = loss_gradients(model, tokens(), LENGTHS, tags(), LABEL, *spelling)
    if spelt:
        spelling = (spelling[0], spelling[1].masked_fill(outside(), 10**9))
    dirty = (tokens().masked_fill(outside(), -5), LENGTHS, tags().masked_fill(outside(), -1))
    assert_equal(loss_gradients(model, *dirty, LABEL, *spelling), found)
    assert all(g.isfinite().all() for g in found[1])


def test_the_loss_is_the_nats_of_every_valid_tag_and_of_the_label():
    model = tagger(num_labels=2, label_weight=0.5)
    p, q = model.probabilities(tokens(), LENGTHS)
    assert_close(p.sum(dim=-1), VALID.float())
    steps = -p.gather(2, tags()[..., None])[..., 0][VALID].log().sum()
    whole = -q[range(B), LABEL].log().sum()
    loss = model.loss(tokens(), LENGTHS, tags(), LABEL)
    assert_close(loss.total.detach(), steps + 0.5 * whole)
    assert loss.count == VALID.sum()


def test_a_field_is_put_on_the_emissions():
    transitions, starts = forbidden_by_bio(["O", "B-X", "I-X"])
    model = tagger(crf=True, forbidden_transitions=transitions, forbidden_starts=starts)
    assert isinstance(model.crf, CRF)
    emissions, label = model(tokens(), LENGTHS)
    assert label is None
    y = torch.zeros(T, B, dtype=torch.long)
    expected = -model.crf.log_likelihood(emissions, y, LENGTHS).sum()
    assert_close(model.loss(tokens(), LENGTHS, y).total, expected)
    marginals, _ = model.probabilities(tokens(), LENGTHS)
    assert_close(marginals, model.crf.marginals(emissions, LENGTHS))
    path, _ = model.decode(tokens(), LENGTHS)
    assert not starts[path[0]].any()
    assert not (transitions[path[:-1], path[1:]] & VALID[1:]).any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crf": True},
        {"num_labels": 2, "crf": True},
        SPELT,
        {"bidirectional": False},
        {"bidirectional": False, "window": 3},
    ],
)
def test_one_batch_can_be_learnt_by_heart(options):
    model = tagger(**{**options, "hidden_size": 16})
    x, spelling, label = tokens(), (None, None), None
    if "character_vocab_size" in options:
        x, spelling = torch.zeros_like(x), words()  # a word is known by its letters alone
    if "num_labels" in options:
        label = LABEL
    lengths = LENGTHS
    assert learnt(model, x, lengths, tags(), label, *spelling) < 0.05
    path, found = model.decode(x, lengths, *spelling)
    assert_equal(path, tags().masked_fill(outside(lengths), 0))
    assert label is None or torch.equal(found, label)


def test_frames_can_be_learnt_by_heart_without_the_future():
    torch.manual_seed(0)
    notes = (torch.rand(T + 1, B, K, generator=generator()) < 0.4).float()
    x, y = notes[:-1], notes[1:].masked_fill(outside()[..., None], torch.nan)
    model = Tagger(K, input_size=K, hidden_size=24, bidirectional=False, multi_label=True)
    p, _ = model.probabilities(x, LENGTHS)
    nats = -(y * p.log() + (1 - y) * (1 - p).log())[VALID].sum()
    loss = model.loss(x, LENGTHS, y)
    assert_close(loss.total.detach(), nats)
    assert loss.count == VALID.sum()
    ahead = x.clone()
    ahead[3:] = 1 - ahead[3:]
    assert_equal(model(ahead, LENGTHS)[0][:3], model(x, LENGTHS)[0][:3])
    before = loss.mean.item()
    assert learnt(model, x, LENGTHS, y, steps=250) < min(0.4, before / 4)
    on, _ = model.decode(x, LENGTHS)
    assert on.dtype is torch.bool and not on[outside()].any()


def test_a_tagger_sees_the_future_where_not_said_otherwise():
    model, x = tagger(), tokens()
    later = x.clone()
    later[-1] = (x[-1] + 1) % VOCAB
    assert (model(x)[0][0] != model(later)[0][0]).all()


def test_a_step_reads_its_neighbours():
    torch.manual_seed(0)
    model = Tagger(K, input_size=2, hidden_size=5, window=3)
    x = torch.randn(4, 1, 2)
    end = torch.zeros(1, 1, 2)
    before, after = torch.cat((end, x[:2])), torch.cat((x[1:3], end))
    expected = torch.cat((before, x[:3], after), dim=-1)
    assert_equal(model.reader.vectors(x, torch.tensor([3]))[:3], expected)
    ahead, one_way = (
        x.clone(),
        Tagger(K, input_size=2, hidden_size=5, window=3, bidirectional=False),
    )
    ahead[3] += 1
    same = one_way(ahead)[0] == one_way(x)[0]
    assert same[:2].all() and not same[2:].any()


@pytest.mark.parametrize("window", [0, 2, -1])
def test_a_window_is_odd(window):
    with pytest.raises(OptionError, match="window must be"):
        tagger(window=window)


def test_a_word_is_read_from_both_ends_by_itself():
    torch.manual_seed(0)
    model = CharacterEncoder(7, 2, 3)
    characters, word_lengths = words()
    lengths = word_lengths.masked_fill(outside(), 0)
    found = model(characters, lengths)
    peer = nn.LSTM(2, 3, bidirectional=True)
    layer = model.encoder.stack.layers[0]
    for way, cell in (("", layer.forward_layer.cell), ("_reverse", layer.backward_layer.cell)):
        for name, value in cell.named_parameters():
            getattr(peer, f"{name}_l0{way}").data.copy_(value.data)
    for b in range(B):
        begin = 0
        for t in range(T):
            n = int(lengths[t, b])
            expected = torch.zeros(6)
            if n:
                letters = model.encoder.embedding(characters[begin : begin + n, b])
                _, (h, _) = peer(letters)
                expected = h.flatten()
            assert_close(found[t, b], expected)
            begin += n


@pytest.mark.parametrize("crf", [False, True])
@pytest.mark.parametrize(("steps", "batch"), [(0, 0), (0, 2), (3, 0), (1, 1)])
def test_nothing_is_a_batch_too(crf, steps, batch):
    model = tagger(crf=crf, num_labels=2, pooling="attention", **SPELT)
    x = torch.zeros(steps, batch, dtype=torch.long)
    label, spelling = torch.zeros(batch, dtype=torch.long), (x[:0], torch.zeros_like(x))
    loss = model.loss(x, torch.full((batch,), steps), x, label, *spelling)
    loss.total.backward()
    assert loss.count == steps * batch and loss.mean.isfinite()
    # Every process must have a gradient of all, the idle one too.
    assert all(p.grad is not None for p in model.parameters())
    assert model.decode(x, None, *spelling)[0].shape == (steps, batch)


@pytest.mark.parametrize("cell", ["gru", "elman", "min-gru"])
def test_other_cells_tag_and_spell(cell):
    model = tagger(cell=cell, **SPELT)
    spelling = words()
    assert model(tokens(), LENGTHS, *spelling)[0].shape == (T, B, K)
    name = type(model.reader.characters.encoder.stack.layers[0].forward_layer.cell).__name__
    assert name.lower() == cell.replace("-", "")


def test_mixed_precision_trains():
    model = tagger(crf=True, num_labels=2, pooling="attention", **SPELT)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(tokens(), LENGTHS, tags(), LABEL, *words())
    loss.total.backward()
    exact = model.loss(tokens(), LENGTHS, tags(), LABEL, *words()).total
    assert loss.total.dtype is torch.float32
    assert abs(loss.total - exact) < 0.03 * exact
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_what_cannot_be_is_refused():
    model = tagger()
    with pytest.raises(ShapeError, match=r"tags must lie in 0 ... 2, got 0 ... 3"):
        model.loss(tokens(), LENGTHS, torch.where(VALID, 3, 0) * (torch.arange(T)[:, None] == 0))
    with pytest.raises(ShapeError, match=r"tags must be whole numbers \[6, 4\]"):
        model.loss(tokens(), LENGTHS, tags()[:5])
    with pytest.raises(OptionError, match="needs a label, and no other"):
        model.loss(tokens(), LENGTHS, tags(), LABEL)
    with pytest.raises(OptionError, match="needs a label, and no other"):
        tagger(num_labels=2).loss(tokens(), LENGTHS, tags())
    with pytest.raises(OptionError, match="without crf"):
        tagger(crf=True, multi_label=True)
    with pytest.raises(OptionError, match="set crf"):
        tagger(forbidden_starts=torch.zeros(K, dtype=torch.bool))
    with pytest.raises(OptionError, match="label_weight must be"):
        tagger(label_weight=-1)
    spelt, (characters, word_lengths) = tagger(**SPELT), words()
    with pytest.raises(OptionError, match="reads characters and word_lengths"):
        spelt(tokens(), LENGTHS)
    with pytest.raises(ShapeError, match="in sum at most C = 3"):
        spelt(tokens(), LENGTHS, characters[:3], word_lengths)
    with pytest.raises(ShapeError, match=r"word_lengths must be \[T, B\] = \[6, 4\], got \[5, 4\]"):
        spelt(tokens(), LENGTHS, characters, word_lengths[:5])
    with pytest.raises(ShapeError, match="tokens must lie in 0 ... 6"):
        spelt(tokens(), LENGTHS, characters.clamp(max=6) + 7, word_lengths)
