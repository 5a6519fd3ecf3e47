import math

import pytest
import torch
from torch import distributions as D

from elman.errors import OptionError, ShapeError
from elman.models import FromVector, SequenceVAE, interpolate
from elman.models.common.latent import gaussian_kl
from tests.support import mapped, randomise

END = 3
LENGTHS = torch.tensor([2, 5, 0, 3])
SMALL = {"hidden_size": 6, "num_layers": 2, "cell": "gru"}
KINDS = {
    "tokens": {"vocab_size": 9, "end": END, "embedding_size": 5},
    "binary": {"input_size": 4, "distribution": "binary"},
    "normal": {"input_size": 4, "distribution": "normal"},
}


def vae(kind="tokens", latent_size=3, seed=0, **options):
    torch.manual_seed(seed)
    model = randomise(SequenceVAE(latent_size, **KINDS[kind] | SMALL | options))
    return model.double().eval()


def batch(kind="tokens", T=5, B=4, seed=0):
    torch.manual_seed(seed)
    if kind == "tokens":
        x = torch.randint(8, (T, B))
        return x + (x >= END)
    x = torch.randn(T, B, 4, dtype=torch.float64)
    return x if kind == "normal" else (x > 0).double()


def posterior(model, x, lengths=None):
    mean, log_variance = model.encode(x, lengths)
    return D.Normal(mean, (log_variance / 2).exp())


def distribution(kind, model, outputs):
    """What torch makes of the outputs of a step."""
    if kind == "tokens":
        return D.Categorical(logits=outputs)
    if kind == "binary":
        return D.Independent(D.Bernoulli(logits=outputs), 1)
    return D.Independent(D.Normal(outputs, model.decoder.items.log_scale.exp()), 1)


def one_by_one(kind, model, items, vector):
    """Outputs and log p of one sequence, alone and a step at a time; ``items``: with its end."""
    state = model.start_state(vector[None])
    fed, total, outputs = model.decoder.first(1), 0.0, []
    for item in items:
        logits, state = model.step(fed.to(vector) if kind != "tokens" else fed, state)
        total = total + distribution(kind, model, logits).log_prob(item[None])[0]
        outputs.append(logits[0])
        fed = item[None]
    return outputs, total


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_at_once_is_a_step_at_a_time_and_torchs_likelihood(kind):
    model, x, z = vae(kind), batch(kind), torch.randn(4, 3, dtype=torch.float64)
    outputs, log_prob = model.decoder(x, z, LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        items = x[:length, b]
        if kind == "tokens":
            items = torch.cat((items, torch.tensor([END])))
        steps, total = one_by_one(kind, model, items, z[b])
        for t, expected in enumerate(steps):
            assert torch.allclose(outputs[t, b], expected, atol=1e-10)
        assert torch.allclose(log_prob[b], torch.as_tensor(total).to(log_prob), atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_the_other_sequences_change_nothing(kind):
    model, x = vae(kind), batch(kind)
    mean, log_variance = model.encode(x, LENGTHS)
    z = torch.randn(4, 3, dtype=torch.float64)
    expected = model.decoder(x, z, LENGTHS)[1]
    garbage = x.clone()
    for b, length in enumerate(LENGTHS.tolist()):
        garbage[length:, b] = -100 if kind == "tokens" else torch.nan
        alone = x[:length, b : b + 1]
        for whole, one in zip((mean, log_variance), model.encode(alone), strict=True):
            assert torch.allclose(whole[b], one[0], atol=1e-10)
        assert torch.allclose(expected[b], model.decoder(alone, z[b : b + 1])[1], atol=1e-10)
    assert torch.equal(model.encode(garbage, LENGTHS)[0], mean)
    loss = model.decoder(garbage, z, LENGTHS)[1]
    assert torch.equal(loss, expected)
    loss.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.decoder.parameters())


def test_the_posterior_reads_both_ends():
    model, x = vae(), batch()
    mean = model.encode(x, LENGTHS)[0]
    for place in ((0, 1), (2, 1), (4, 1)):
        other = x.clone()
        other[place] = (x[place] + 1) % 3
        changed = (model.encode(other, LENGTHS)[0] != mean).any(dim=1)
        assert changed.tolist() == [False, True, False, False]


def test_a_batch_without_a_step_ends_at_once():
    model = vae()
    outputs, log_prob, _ = model(torch.zeros(0, 2, dtype=torch.long))
    expected = outputs.log_softmax(dim=-1)[0, :, END]
    assert torch.allclose(log_prob, expected)
    frames = vae("normal")
    assert frames.elbo_parts(torch.zeros(0, 2, 4, dtype=torch.float64))[0] == 0


def test_the_kl_is_torchs():
    mean, log_variance = torch.randn(2, 5, 3, dtype=torch.float64)
    expected = D.kl_divergence(D.Normal(mean, (log_variance / 2).exp()), D.Normal(0.0, 1.0))
    assert torch.allclose(gaussian_kl(mean, log_variance), expected)


def test_the_loss_in_evaluation_is_the_negative_elbo():
    model, x = vae(free_bits=50.0), batch()
    torch.manual_seed(1)
    reconstruction, kl = model.elbo_parts(x, LENGTHS)
    torch.manual_seed(1)
    loss = model.loss(x, LENGTHS, beta=0.1)
    assert torch.equal(loss.total, kl - reconstruction)
    assert loss.count == 4
    expected = D.kl_divergence(posterior(model, x, LENGTHS), D.Normal(0.0, 1.0)).sum()
    assert torch.allclose(kl, expected)


def test_free_bits_are_a_floor_under_each_dimension():
    model, x = vae(latent_size=5), batch()
    each = gaussian_kl(*model.encode(x, LENGTHS)).mean(dim=0)
    model.free_bits = each.sort().values[1:3].mean().item()  # two dimensions below, three above
    model.train()
    torch.manual_seed(1)
    reconstruction, _ = model.elbo_parts(x, LENGTHS)
    torch.manual_seed(1)
    loss = model.loss(x, LENGTHS, beta=0.25)
    floored = sum(max(model.free_bits, kl) for kl in each.tolist())
    assert loss.total.item() == pytest.approx(0.25 * 4 * floored - reconstruction.item())
    assert floored > each.sum().item() + 1e-3


def test_below_the_floor_nothing_presses_the_posterior_to_the_prior():
    model, x = vae(free_bits=1e6).train(), batch()
    torch.manual_seed(1)
    with_kl = torch.autograd.grad(model.loss(x, LENGTHS).total, model.posterior.weight)
    torch.manual_seed(1)
    without = torch.autograd.grad(model.loss(x, LENGTHS, beta=0.0).total, model.posterior.weight)
    assert torch.allclose(with_kl[0], without[0])


def exact_log_likelihood(model, x):
    """log p(x) by summing p(x | z) p(z) over a fine grid of the one latent dimension."""
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    each = torch.cat(
        [
            model.decoder(x[:, b : b + 1].expand(-1, len(grid)), grid[:, None])[1][None]
            for b in range(x.shape[1])
        ]
    )
    prior = D.Normal(0.0, 1.0).log_prob(grid)
    return (each + prior).logsumexp(dim=1) + math.log(18 / 4000)


@torch.no_grad()
def test_the_bounds_lie_below_the_likelihood_and_more_samples_close_the_gap():
    model, x = vae(latent_size=1, hidden_size=4, num_layers=1), batch(T=3)
    exact = exact_log_likelihood(model, x).sum().item()
    torch.manual_seed(0)
    elbo = sum((a - b).item() for a, b in (model.elbo_parts(x) for _ in range(300))) / 300
    bounds = [
        torch.stack([model.log_likelihood(x, samples=K).sum() for _ in range(300 // K + 1)]).mean()
        for K in (1, 5, 50)
    ]
    bounds.append(model.log_likelihood(x, samples=20_000, at_once=1500).sum())
    one, five, fifty, many = (bound.item() for bound in bounds)
    assert elbo == pytest.approx(one, abs=0.3)
    assert one < five < fifty < exact + 0.01
    assert many == pytest.approx(exact, abs=0.025)


def test_the_bound_does_not_depend_on_how_many_are_decoded_at_once():
    model, x = vae("normal"), batch("normal")
    found = []
    for at_once in (1, 3, 7):
        torch.manual_seed(2)
        found.append(model.log_likelihood(x, LENGTHS, samples=7, at_once=at_once))
    assert torch.allclose(found[0], found[1]) and torch.allclose(found[0], found[2])


def train(model, loss, steps, rate=0.02):
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().mean.backward()
        optimizer.step()


WORDS = ["abba", "", "caab", "b", "bacbcacb"]


def words():
    """A batch of the words, a = 1, padded with garbage, and their lengths."""
    x = torch.full((8, len(WORDS)), 77)
    for b, word in enumerate(WORDS):
        x[: len(word), b] = torch.tensor([ord(c) - 96 for c in word], dtype=torch.long)
    return x, torch.tensor([len(word) for word in WORDS])


def spelled(x, lengths):
    rows = zip(x.T.tolist(), lengths.tolist(), strict=True)
    return ["".join(chr(96 + i) for i in row[:length]) for row, length in rows]


def test_a_few_strings_are_learnt_and_told_again_from_z():
    torch.manual_seed(0)
    model = SequenceVAE(8, vocab_size=4, end=0, hidden_size=24, cell="gru", word_dropout=0.25)
    x, lengths = words()
    train(model, lambda: model.loss(x, lengths, beta=0.01), 200, rate=0.03)
    mean, _ = model.encode(x, lengths)
    assert spelled(*model.generate(mean, 12, temperature=0)) == WORDS
    assert model.training
    path = interpolate(mean[0], mean[2], 4)
    told = spelled(*model.generate(path, 12, temperature=0))
    assert (told[0], told[-1]) == (WORDS[0], WORDS[2])


def test_a_class_tells_its_string():
    torch.manual_seed(0)
    model = FromVector(6, num_classes=5, vocab_size=4, end=0, hidden_size=24)
    x, lengths = words()
    classes = torch.arange(5)
    train(model, lambda: model.loss(classes, x, lengths), 100, rate=0.03)
    assert model.loss(classes, x, lengths).mean < 0.05
    order = torch.tensor([3, 0, 4])
    written, lengths = model.generate(order, 12, temperature=0)
    assert spelled(written, lengths) == [WORDS[i] for i in order]
    assert len(written) == 8  # the longest of them: nothing is written after the last end


@pytest.mark.parametrize(("kind", "count"), [("tokens", 14), ("binary", 10), ("normal", 10)])
def test_a_vector_is_told_by_the_same_decoder(kind, count):
    torch.manual_seed(0)
    model = randomise(FromVector(3, **KINDS[kind] | SMALL)).double().eval()
    v, x = torch.randn(4, 3, dtype=torch.float64), batch(kind)
    loss = model.loss(v, x, LENGTHS)
    assert torch.allclose(loss.total, -model.decoder(x, v, LENGTHS)[1].sum())
    assert int(loss.count) == count
    assert int(model.loss(v, x).count) == (24 if kind == "tokens" else 20)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_the_state_can_be_taken_in_any_order(kind):
    model = vae(kind, cell="lstm")
    state = model.start_state(torch.randn(4, 3, dtype=torch.float64))
    first, order = model.decoder.first(4), torch.tensor([2, 2, 0])
    _, state = model.step(first, state)
    expected, _ = model.step(first, state)
    found, _ = model.step(first[order], mapped(lambda s: s[order], state))
    assert torch.allclose(found, expected[order], atol=1e-12)


#: Several parts, one part, the output last in line, a projection, parts with no meaning alone.
@pytest.mark.parametrize("cell", ["lstm", "elman", "jordan", "projected-lstm", "slstm"])
def test_every_part_of_the_state_starts_from_the_vector_and_steps_agree(cell):
    torch.manual_seed(0)
    model = FromVector(3, vocab_size=9, end=END, hidden_size=6, num_layers=2, cell=cell)
    x, z = batch(), torch.randn(4, 3)
    model.loss(z, x, LENGTHS).total.backward()
    assert all(start.weight.grad.abs().sum() > 0 for start in model.decoder.starts)
    outputs, _ = model.eval().decoder(x, z)
    logits, state = model.step(model.decoder.first(4), model.start_state(z))
    assert torch.allclose(logits, outputs[0], atol=1e-5)
    assert torch.allclose(model.step(x[0], state)[0], outputs[1], atol=1e-5)


def test_dropped_words_are_fed_as_zeros_but_for_the_first():
    model = vae(word_dropout=1.0)
    x, z = batch(), torch.randn(4, 3, dtype=torch.float64)
    other = (x + 1) % 3
    seen = model.decoder(x, z)[0], model.decoder(other, z)[0]
    assert not torch.allclose(*seen)
    model.train()
    blind = model.decoder(x, z)[0], model.decoder(other, z)[0]
    assert torch.equal(*blind)
    assert torch.allclose(blind[0][0], seen[0][0])


@pytest.mark.parametrize("kind", ["binary", "normal"])
def test_frames_are_written_by_the_seed_and_by_the_model(kind):
    model = vae(kind)

    def written(seed, **options):
        generator = torch.Generator().manual_seed(seed)
        return model.generate(4, 6, generator=generator, **options)[0]

    assert torch.equal(written(1), written(1)) and not torch.equal(written(1), written(2))
    z = torch.randn(2, 3, dtype=torch.float64)
    x, lengths = model.generate(z, 6, temperature=0)
    assert x.shape == (6, 2, 4) and lengths.tolist() == [6, 6]
    outputs, _ = model.decoder(x, z)
    expected = outputs if kind == "normal" else (outputs > 0).double()
    assert torch.allclose(x, expected, atol=1e-10)


def test_written_frames_are_distributed_as_the_model_says():
    model = vae("normal", scale=[0.5, 1.0, 2.0, 3.0])
    z = torch.zeros(1, 3, dtype=torch.float64)
    mean = model.decoder(torch.zeros(1, 1, 4, dtype=torch.float64), z)[0][0, 0]
    torch.manual_seed(0)
    x, _ = model.generate(z.expand(20_000, -1), 1)
    assert torch.allclose(x[0].mean(dim=0), mean, atol=0.08)
    assert torch.allclose(x[0].std(dim=0), torch.tensor([0.5, 1, 2, 3]).double(), rtol=0.03)
    assert "decoder.items.log_scale" not in dict(model.named_parameters())


def test_written_tokens_are_distributed_as_the_model_says():
    model = vae(vocab_size=4)
    z = torch.zeros(1, 3, dtype=torch.float64)
    torch.manual_seed(0)
    x, lengths = model.generate(z.expand(20_000, -1), 2)
    assert (x != END).sum(dim=0).equal(lengths)
    first = model.decoder(torch.zeros(0, 1, dtype=torch.long), z)[0][0, 0].softmax(dim=-1)
    share = x[0].bincount(minlength=4) / 20_000
    assert torch.allclose(share.double(), first, atol=0.015)
    again = model.decoder(torch.tensor([[1]]), z)[0][1, 0].softmax(dim=-1)
    share = x[1][x[0] == 1].bincount(minlength=4) / (x[0] == 1).sum()
    assert torch.allclose(share.double(), again, atol=0.03)


def test_the_line_from_a_to_b():
    a, b = torch.randn(2, 2, 3, dtype=torch.float64)
    line = interpolate(a, b, 5)
    assert torch.equal(line[0], a) and torch.allclose(line[4], b)
    assert torch.allclose(line[1], 0.75 * a + 0.25 * b)
    with pytest.raises(OptionError, match="steps"):
        interpolate(a, b, 1)
    with pytest.raises(ShapeError, match="one shape"):
        interpolate(a, b[0], 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either vocab_size"),
        ({"vocab_size": 5}, "need end"),
        ({"vocab_size": 5, "end": 5}, r"end must be an id in 0 ... 4"),
        ({"vocab_size": 5, "end": 0, "scale": 1.0}, "tokens have a softmax"),
        ({"input_size": 5, "distribution": "norml"}, "did you mean 'normal'"),
        ({"input_size": 5, "distribution": "binary", "end": 1}, "are of tokens"),
        ({"input_size": 5, "distribution": "binary", "scale": 1.0}, "binary frames have none"),
        ({"input_size": 5, "distribution": "normal", "scale": [1.0, 2.0]}, "or 5 of them"),
        ({"input_size": 5, "distribution": "normal", "scale": 0.0}, "above 0"),
        ({"vocab_size": 5, "end": 0, "word_dropout": 1.5}, "word_dropout"),
        ({"vocab_size": 5, "end": 0, "free_bits": -1.0}, "free_bits"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        SequenceVAE(2, hidden_size=4, **options)


@pytest.mark.parametrize(
    ("kind", "given", "lengths", "message"),
    [
        ("tokens", torch.tensor([[1], [9]]), None, r"0 ... 8, got 1 ... 9"),
        ("tokens", torch.tensor([[1], [END], [2]]), None, "inside the sequence b=0"),
        ("tokens", torch.tensor([1, 2]), None, r"\[T, B\]"),
        ("tokens", torch.tensor([[1], [2]]), torch.tensor([3]), "0 ... T = 2"),
        ("tokens", torch.tensor([[1], [2]]), torch.tensor([1, 1]), r"\[B\] = \[1\]"),
        ("binary", torch.full((2, 1, 4), 0.5), None, "zeros and ones"),
        ("normal", torch.zeros(2, 1, 3), None, r"\[T, B, 4\]"),
    ],
)
def test_sequences_that_cannot_be_are_refused(kind, given, lengths, message):
    with pytest.raises(ShapeError, match=message):
        vae(kind).loss(given, lengths)


def test_vectors_that_do_not_fit_are_refused():
    decoder, x = vae().decoder, batch()
    with pytest.raises(ShapeError, match=r"\[B, 3\]"):
        decoder(x, torch.zeros(4, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match="one vector a sequence"):
        decoder(x, torch.zeros(1, 3, dtype=torch.float64))
