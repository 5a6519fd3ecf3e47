import pytest
import torch
from torch.nn.functional import cross_entropy

from elman.errors import OptionError, ShapeError
from elman.layers.pooling import KINDS
from elman.models import Classifier, Regressor
from tests.models.inputs import (
    LENGTHS,
    VOCAB,
    B,
    T,
    learnt,
    loss_gradients,
    outside,
    tokens,
    vectors,
    words,
)
from tests.support import assert_close, assert_equal

LABEL = torch.tensor([2, 0, 1, 2])
SMALL = {"hidden_size": 5, "embedding_size": 3}


def classifier(**options):
    torch.manual_seed(0)
    return Classifier(3, **{"vocab_size": VOCAB, **SMALL, **options})


@pytest.mark.parametrize("pooling", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_batch_is_its_sequences_one_at_a_time(pooling, bidirectional, num_layers):
    model = classifier(pooling=pooling, bidirectional=bidirectional, num_layers=num_layers)
    x = tokens()
    logits = model(x, LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        assert_close(logits[b], model(x[:n, b : b + 1])[0])
    assert_close(logits[1], model.output.bias)


@pytest.mark.parametrize("pooling", KINDS)
@pytest.mark.parametrize("spelt", [False, True])
def test_padding_changes_nothing(pooling, spelt):
    options = {"character_vocab_size": 7, "character_hidden_size": 2} if spelt else {}
    model = classifier(pooling=pooling, bidirectional=True, **options)
    batch = (LABEL, *(words() if spelt else ()))
    found = loss_gradients(model, tokens(), LENGTHS, *batch)
    dirty = tokens().masked_fill(outside(), -5)
    assert_equal(loss_gradients(model, dirty, LENGTHS, *batch), found)
    assert all(g.isfinite().all() for g in found[1])


def test_padding_of_vectors_changes_nothing():
    model = classifier(vocab_size=None, input_size=2, embedding_size=None)
    x = vectors(2)
    dirty = x.masked_fill(outside()[..., None], torch.nan)
    found = loss_gradients(model, x, LENGTHS, LABEL)
    assert_equal(loss_gradients(model, dirty, LENGTHS, LABEL), found)


def test_the_loss_is_the_cross_entropy_summed_over_sequences():
    model = classifier()
    loss = model.loss(tokens(), LENGTHS, LABEL)
    logits = model(tokens(), LENGTHS)
    assert loss.count == B
    assert_close(loss.total, -logits.log_softmax(dim=-1)[range(B), LABEL].sum())
    assert_close(model.probabilities(tokens(), LENGTHS), logits.softmax(dim=-1).detach())


def test_any_number_of_labels_can_hold():
    model = classifier(multi_label=True, label_smoothing=0.2)
    wanted = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    p = model.probabilities(tokens(), LENGTHS)

    def nats(target):
        return -(target * p.log() + (1 - target) * (1 - p).log()).sum()

    assert_close(model.loss(tokens(), LENGTHS, wanted).total.detach(), nats(wanted * 0.8 + 0.1))
    assert_close(model.eval().loss(tokens(), LENGTHS, wanted).total.detach(), nats(wanted))


def test_labels_are_smooth_in_training_alone():
    model = classifier(label_smoothing=0.3)
    logits = model(tokens(), LENGTHS)
    smooth = cross_entropy(logits, LABEL, label_smoothing=0.3, reduction="sum")
    sharp = cross_entropy(logits, LABEL, reduction="sum")
    assert_close(model.loss(tokens(), LENGTHS, LABEL).total, smooth)
    assert_close(model.eval().loss(tokens(), LENGTHS, LABEL).total, sharp)
    assert smooth != sharp


@pytest.mark.parametrize("pooling", KINDS)
def test_one_batch_can_be_learnt_by_heart(pooling):
    model = classifier(pooling=pooling, hidden_size=16)
    lengths = torch.tensor([4, 3, 6, 1])
    assert learnt(model, tokens(), lengths, LABEL) < 0.05


def test_a_number_can_be_learnt_by_heart():
    torch.manual_seed(0)
    model = Regressor(input_size=2, hidden_size=16, pooling="mean")
    lengths, target = torch.tensor([4, 3, 6, 1]), torch.tensor([1.5, -2.0, 0.25, 0.0])
    loss = model.loss(vectors(2), lengths, target)
    errors = (model(vectors(2), lengths)[:, 0] - target) ** 2
    assert_close(loss.total, errors.sum())
    assert loss.count == B
    assert learnt(model, vectors(2), lengths, target) < 1e-3


def test_several_numbers_at_once():
    model = Regressor(3, input_size=2, hidden_size=4)
    target = torch.randn(B, 3)
    found = model(vectors(2), LENGTHS)
    assert_close(model.loss(vectors(2), LENGTHS, target).total, (found - target).square().sum())
    with pytest.raises(ShapeError, match=r"target must be \[4, 3\], got \[4\]"):
        model.loss(vectors(2), LENGTHS, target[:, 0])


def test_dropped_words_become_the_unknown_one_in_training_alone():
    model = classifier(word_dropout=0.25, unknown_id=4)
    x = torch.randint(5, VOCAB, (100, 100))
    kept = model.reader.word_dropout(x)
    dropped = kept != x
    assert (kept[dropped] == 4).all()
    assert 0.2 < dropped.float().mean() < 0.3
    assert_equal(model.eval().reader.word_dropout(x), x)


def test_predicting_leaves_every_part_in_its_mode():
    model = classifier(dropout=0.5, num_layers=2).train()
    model.reader.eval()
    first, second = (model.probabilities(tokens(), LENGTHS) for _ in range(2))
    assert_equal(first, second)
    assert not first.requires_grad
    assert model.training and model.dropout.training and not model.reader.training


@pytest.mark.parametrize(("steps", "batch"), [(0, 0), (0, 2), (3, 0), (1, 1)])
@pytest.mark.parametrize("pooling", KINDS)
def test_nothing_is_a_batch_too(pooling, steps, batch):
    model = classifier(bidirectional=True, pooling=pooling)
    x, label = torch.zeros(steps, batch, dtype=torch.long), torch.zeros(batch, dtype=torch.long)
    loss = model.loss(x, torch.full((batch,), steps), label)
    loss.total.backward()
    assert loss.count == batch and loss.mean.isfinite()
    assert all(p.grad is not None for p in model.parameters())


def test_what_cannot_be_is_refused():
    model = classifier()
    with pytest.raises(ShapeError, match=r"label must lie in 0 ... 2, got -100"):
        model.loss(tokens(), LENGTHS, torch.tensor([0, 1, -100, 2]))
    with pytest.raises(ShapeError, match=r"label must be whole numbers \[4\], got"):
        model.loss(tokens(), LENGTHS, LABEL[:3])
    with pytest.raises(ShapeError, match="tokens must lie in 0"):
        model(tokens() + VOCAB, LENGTHS)
    with pytest.raises(ShapeError, match=r"x must be \[T, B\] ids, got \[6\]"):
        model(tokens()[:, 0])
    with pytest.raises(OptionError, match="built with character_vocab_size"):
        model(tokens(), LENGTHS, *words())
    with pytest.raises(OptionError, match="needs vocab_size and unknown_id"):
        classifier(word_dropout=0.1)
    with pytest.raises(OptionError, match="unknown_id must be an id"):
        classifier(word_dropout=0.1, unknown_id=VOCAB)
    with pytest.raises(OptionError, match="either vocab_size"):
        classifier(input_size=3)
    with pytest.raises(OptionError, match="num_classes must be"):
        Classifier(0, vocab_size=3)
    assert T == 6
