"""Decoding against the enumeration of all sequences and against a literal beam search."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import elman
from elman.errors import OptionError, RunError, ShapeError
from elman.models import Decoding, LanguageModel, decode
from elman.models.decoding.choose import likeliest

V, END, START = 4, 0, 1
#: Seeds of writers whose sentences differ in length and in what a wider beam finds.
VARIED = (0, 3, 7, 10)
INF = math.inf


class Writer:
    """A small random decoder: a recurrence that also looks at the source, [S, 5] a sentence."""

    def __init__(self, seed=0, vocab=V, sharpness=2.0):
        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        generator = torch.Generator().manual_seed(seed)
        self.E, self.R, self.O = draw(vocab, 5), draw(5, 5), sharpness * draw(5, vocab)
        self.sources = draw(3, 6, 5)
        self.rows = []

    def state(self, *sentences):
        sources = self.sources[list(sentences)]
        return (sources.mean(1), (sources,))

    def step(self, tokens, state):
        h, (source,) = state
        self.rows.append(len(tokens))
        attention = torch.einsum("nsi,ni->ns", source, h).softmax(1)
        read = torch.einsum("ns,nsi->ni", attention, source)
        h = torch.tanh(self.E[tokens] + h @ self.R + 0.5 * read)
        return h @ self.O, (h, (source,)), attention

    def run(self, sentences, decoding, **options):
        options = {"start": START, "end": END, **options}
        state = self.state(*sentences)
        return decode(self.step, state, batch_size=len(sentences), decoding=decoding, **options)

    def read(self, sentence, tokens):
        """log p of every token after ``tokens``, and the attention on the way; one row alone."""
        state, attended = self.state(sentence), []
        for token in [START, *tokens]:
            logits, state, attention = self.step(torch.tensor([token]), state)
            attended.append(attention[0])
        return logits[0].log_softmax(0).tolist(), torch.stack(attended)


def score(writer, sentence, tokens, log_p, decoding):
    """The formula of Wu et al. 2016, eq. 14."""
    _, attention = writer.read(sentence, tokens[:-1])
    coverage = sum(math.log(min(p.item(), 1.0)) for p in attention.sum(0))
    lp = (5 + len(tokens)) ** decoding.length_penalty / 6**decoding.length_penalty
    return log_p / lp + decoding.coverage_penalty * coverage


def repeats(tokens, n):
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return n > 0 and len(set(grams)) < len(grams)


def continuations(writer, sentence, beam, decoding, exclude, forced):
    """Every sequence that may follow those of the beam, with its log probability."""
    found = []
    for tokens, total in beam:
        log_p, _ = writer.read(sentence, tokens)
        for token in range(V):
            new = [*tokens, token]
            allowed = token not in exclude and not repeats(new, decoding.no_repeat_ngram)
            if token == END and len(tokens) < decoding.min_length:
                allowed = False
            if len(tokens) < len(forced):
                allowed = token == forced[len(tokens)]
            if allowed:
                found.append((new, total + log_p[token]))
    return found


def literal_search(writer, sentence, decoding, exclude=(), forced=(), beams=None):
    """Beam search as it is told, one sentence alone and never stopped early; beams=inf: all."""
    beams = decoding.beams if beams is None else beams
    beam, finished = [([], 0.0)], []
    for length in range(1, decoding.max_length + 1):
        following = continuations(writer, sentence, beam, decoding, exclude, forced)
        following.sort(key=lambda one: -one[1])
        following = following if beams == INF else following[:beams]
        done = [x for x in following if x[0][-1] == END or length == decoding.max_length]
        beam = [x for x in following if x not in done]
        finished += [(score(writer, sentence, *x, decoding), *x) for x in done]
    return sorted(finished, key=lambda one: -one[0])[: decoding.n_best]


def assert_found(hypotheses, expected):
    assert [h.tokens for h in hypotheses] == [tokens for _, tokens, _ in expected]
    for h, (points, tokens, total) in zip(hypotheses, expected, strict=True):
        assert math.isclose(h.score, points, abs_tol=1e-9)
        assert math.isclose(h.log_probability, total, abs_tol=1e-9)
        assert math.isclose(sum(h.log_probabilities), total, abs_tol=1e-9)
        assert len(h.log_probabilities) == len(tokens)
        assert h.ended == (tokens[-1] == END)
        assert h.content == [token for token in tokens if token != END]


VARIANTS = {
    "plain": {},
    "long": {"length_penalty": 1.5},
    "covered": {"length_penalty": 0.6, "coverage_penalty": 0.4},
    "late end": {"min_length": 3},
    "no repeats": {"no_repeat_ngram": 2, "length_penalty": 1.0},
    "no token twice": {"no_repeat_ngram": 1},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_a_beam_as_wide_as_the_space_finds_the_best_of_all(options):
    writer = Writer(seed=10)
    decoding = Decoding(beams=300, n_best=5, max_length=4, **options)
    for sentence, found in enumerate(writer.run([0, 1, 2], decoding)):
        assert_found(found, literal_search(writer, sentence, decoding, beams=INF))


@pytest.mark.parametrize("beams", [1, 2, 3, 7])
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_a_batch_is_searched_as_each_sentence_alone(options, beams):
    for seed in VARIED:
        writer = Writer(seed)
        decoding = Decoding(beams=beams, n_best=min(beams, 3), max_length=7, **options)
        if options.get("no_repeat_ngram") == 1:
            decoding = replace(decoding, max_length=3)
        for sentence, found in enumerate(writer.run([0, 1, 2], decoding)):
            assert_found(found, literal_search(writer, sentence, decoding))


def test_one_beam_is_greedy():
    for seed in VARIED:
        writer = Writer(seed)
        for sentence, (found,) in enumerate(writer.run([0, 1, 2], Decoding(max_length=9))):
            tokens, gained = [], []
            while len(tokens) < 9 and tokens[-1:] != [END]:
                log_p, _ = writer.read(sentence, tokens)
                tokens.append(log_p.index(max(log_p)))
                gained.append(max(log_p))
            assert found.tokens == tokens
            assert found.log_probabilities == pytest.approx(gained, abs=1e-12)


def test_the_search_stops_when_nothing_better_can_come():
    writer = Writer(seed=1)
    writer.O[:, END] += 3
    short = Decoding(beams=3, n_best=2, max_length=200)
    found = writer.run([0, 1, 2], short)
    steps = len(writer.rows)
    assert steps < 60
    for sentence in range(3):
        assert_found(
            found[sentence], literal_search(writer, sentence, replace(short, max_length=9))
        )
    # With a length penalty an unfinished sequence may still win when it grows long.
    writer.rows.clear()
    writer.run([0, 1, 2], replace(short, length_penalty=1.0))
    assert steps < len(writer.rows) <= 200


@pytest.mark.parametrize(
    ("p_end", "options", "steps"),
    [
        (0.6, {"beams": 2}, 1),  # the end at once beats all that begins otherwise, 0.4 at most
        (0.5, {"beams": 2}, 1),  # what can only be as good is not waited for
        (0.6, {"beams": 2, "n_best": 2}, 2),  # 0.6 and 0.24, with 0.16 left
        # log 0.6 / 1 = -0.51, while 0.4^t is left: it stops at t = 2, as -1.83 / (15 / 6) = -0.73,
        # but not at t = 1, as -0.92 / (15 / 6) = -0.37.
        (0.6, {"beams": 2, "length_penalty": 1.0}, 2),
    ],
)
def test_the_search_stops_at_the_first_step_where_nothing_better_can_come(p_end, options, steps):
    done = []

    def step(tokens, state):
        done.append(len(tokens))
        return torch.tensor([[p_end, 1 - p_end]]).log().expand(len(tokens), -1), state

    decoding = Decoding(max_length=10, **options)
    (found,) = decode(step, None, batch_size=1, start=1, end=0, decoding=decoding)
    assert found[0].tokens == [0]
    assert len(done) == steps


def test_finished_sequences_take_no_part_in_a_step():
    writer = Writer(seed=0)
    found = writer.run([0, 1, 2], Decoding(max_length=30))
    lengths = [len(h.tokens) for (h,) in found]
    assert lengths == [4, 1, 4]
    assert writer.rows == [sum(length > t for length in lengths) for t in range(max(lengths))]


def test_excluded_ids_and_an_end_too_early_are_never_written():
    writer = Writer()
    for way in ({"beams": 4, "n_best": 4}, {"temperature": 1.0, "n_best": 9}):
        decoding = Decoding(max_length=6, min_length=3, **way)
        for found in writer.run([0, 2], decoding, exclude=[2, 3], generator=seeded()):
            for h in found:
                assert not {2, 3} & set(h.tokens)
                assert len(h.content) >= 3


def test_prefixes_are_forced_and_counted_in():
    writer = Writer(seed=7)
    prefix = torch.tensor([[2, 1, 3], [2, 1, 3], [3, 1, 1]])
    decoding = Decoding(beams=3, n_best=3, max_length=6, length_penalty=0.7)
    found = writer.run([0, 1, 2], decoding, prefix=prefix, prefix_lengths=[3, 0, 1], exclude=[3])
    for sentence, forced in enumerate(([2, 2, 3], [], [3])):
        expected = literal_search(writer, sentence, decoding, exclude=[3], forced=forced)
        assert_found(found[sentence], expected)
    drawn = writer.run([0], Decoding(temperature=2.0, n_best=5), prefix=torch.tensor([[2], [1]]))
    assert all(h.tokens[:2] == [2, 1] for h in drawn[0])
    (whole,) = writer.run([0], Decoding(max_length=3), prefix=prefix[:, :1])
    assert whole[0].tokens == [2, 2, 3] and not whole[0].ended


def test_repeats_of_three_are_absent_where_they_would_be_written():
    torch.manual_seed(0)
    model = LanguageModel(11, 6).eval()

    def written(**options):
        rules = Decoding(max_length=60, **options)
        return decode(model.step, None, batch_size=1, start=2, decoding=rules)[0][0].tokens

    assert repeats(written(), 3)
    for options in ({}, {"beams": 3}, {"temperature": 0.3}):
        tokens = written(no_repeat_ngram=3, **options)
        assert len(tokens) == 60 and not repeats(tokens, 3)


def test_the_state_of_layers_is_selected_on_its_own_axis():
    torch.manual_seed(0)
    embed, layer, out = torch.eye(5), elman.LSTM(5, 7, 2), 3 * torch.randn(7, 5)

    def step(tokens, state):
        outputs, state = layer(embed[tokens][None], state)
        return outputs[0] @ out, state

    def select(state, rows):
        return layer.over_batch_axis(lambda part, axis: part.index_select(axis, rows), state)

    _, states = layer(torch.randn(3, 4, 5))
    decoding = Decoding(beams=4, n_best=2, max_length=8)
    options = {"start": 1, "end": 0, "decoding": decoding, "select": select}
    together = decode(step, states, batch_size=4, **options)
    for b in range(4):
        (alone,) = decode(step, select(states, torch.tensor([b])), batch_size=1, **options)
        assert [h.tokens for h in alone] == [h.tokens for h in together[b]]


# ------------------------------------------------------------------ drawing


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_draws_follow_the_distribution_of_sequences():
    writer = Writer(seed=5, sharpness=0.7)
    drawing = Decoding(temperature=1.0, max_length=2, n_best=4000)
    found = writer.run([0, 1], drawing, generator=seeded())
    for sentence, hypotheses in enumerate(found):
        everything = replace(drawing, temperature=0, n_best=100, beams=100)
        for _, tokens, total in literal_search(writer, sentence, everything, beams=INF):
            share = sum(h.tokens == tokens for h in hypotheses) / 4000
            assert abs(share - math.exp(total)) < 0.035
        assert len(hypotheses) == 4000
        assert all(a.score >= b.score for a, b in pairwise(hypotheses))


def test_draws_depend_on_the_generator_alone_and_end_at_the_end():
    writer = Writer(seed=7)
    drawing = Decoding(temperature=1.3, top_k=3, n_best=8, max_length=12)

    def tokens(seed):
        found = writer.run([0, 1, 2], drawing, generator=seeded(seed))
        return [[h.tokens for h in hypotheses] for hypotheses in found]

    assert tokens(1) == tokens(1) != tokens(2)
    assert all(END not in t[:-1] for hypotheses in tokens(1) for t in hypotheses)
    assert any(t[-1] == END for hypotheses in tokens(1) for t in hypotheses)


def test_probabilities_are_the_models_whatever_the_temperature():
    writer = Writer(seed=10)
    drawing = Decoding(temperature=0.5, top_p=0.8, max_length=5, length_penalty=0.8)
    for b in range(3):
        ((h,),) = writer.run([b], drawing, exclude=[3], generator=seeded(b))
        expected = [writer.read(b, h.tokens[:t])[0][token] for t, token in enumerate(h.tokens)]
        assert h.log_probabilities == pytest.approx(expected, abs=1e-12)
        assert h.score == pytest.approx(score(writer, b, h.tokens, sum(expected), drawing))


# ------------------------------------------------------------------ attention and ties


def test_attention_is_that_of_each_token_without_padding():
    writer = Writer(seed=7)
    for decoding in (Decoding(beams=3, n_best=2, max_length=5), Decoding(max_length=5)):
        found = writer.run([0, 2], decoding, source_lengths=[4, 6])
        for sentence, length, hypotheses in zip((0, 2), (4, 6), found, strict=True):
            for h in hypotheses:
                _, attention = writer.read(sentence, h.tokens[:-1])
                torch.testing.assert_close(h.attention, attention[:, :length])


def test_padding_of_the_source_costs_no_coverage():
    writer = Writer(seed=7)
    decoding = Decoding(beams=3, n_best=3, max_length=5, coverage_penalty=0.3)
    alone = writer.run([1], decoding)[0]

    def padded(tokens, state):
        logits, state, attention = writer.step(tokens, state)
        return logits, state, torch.nn.functional.pad(attention, (0, 2))

    (found,) = decode(
        padded,
        writer.state(1),
        batch_size=1,
        start=START,
        end=END,
        decoding=decoding,
        source_lengths=torch.tensor([6]),
    )
    assert [h.tokens for h in found] == [h.tokens for h in alone]
    assert [h.score for h in found] == pytest.approx([h.score for h in alone], abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 6, 7])
def test_the_likeliest_are_those_of_a_stable_sort(k):
    scores = torch.randint(3, (500, 7), generator=seeded()).double()
    scores[scores == 0] = -INF
    values, ids = likeliest(scores, k)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    assert ids.tolist() == order.sort(dim=1).values.tolist()
    assert values.tolist() == scores.gather(1, ids).tolist()


def test_of_equals_the_lower_id_and_the_earlier_beam_comes_first():
    def step(tokens, state):
        return torch.zeros(len(tokens), 50), state

    decoding = Decoding(beams=4, n_best=4, max_length=2)
    (found,) = decode(step, None, batch_size=1, start=0, decoding=decoding)
    assert [h.tokens for h in found] == [[0, 0], [0, 1], [0, 2], [0, 3]]


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 0}, "beams must be"),
        ({"n_best": 2}, r"n_best \(2\) must not exceed beams \(1\)"),
        ({"max_length": 0}, "max_length must be"),
        ({"min_length": -1}, "min_length must be"),
        ({"min_length": 101}, r"min_length \(101\) must not exceed max_length \(100\)"),
        ({"length_penalty": -0.1}, "length_penalty must be"),
        ({"length_penalty": math.nan}, "length_penalty must be"),
        ({"coverage_penalty": math.inf}, "coverage_penalty must be"),
        ({"no_repeat_ngram": 1.5}, "no_repeat_ngram must be"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"temperature": 1.0, "beams": 2}, r"beams \(2\) search and temperature"),
        ({"temperature": 1.0, "top_p": 2.0}, "top_p must lie"),
        ({"top_k": 5}, "top_k and top_p limit what is drawn"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Decoding(**options)


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({"beams": 9, "n_best": 5, "max_length": 1}, {}, "n_best is 5.*only 4.*vocabulary of 4"),
        ({"no_repeat_ngram": 1, "min_length": 5}, {}, "only 0 sequences.*no_repeat_ngram 1"),
        ({"temperature": 1.0, "min_length": 1}, {"exclude": [1, 2, 3]}, "3 of it excluded"),
        ({}, {"exclude": [4]}, r"exclude: 4 is outside the vocabulary, 0 ... 3"),
        ({}, {"end": -1}, "end: -1 is outside"),
        ({}, {"prefix": torch.tensor([[7]])}, "prefix: 7 is outside"),
        ({}, {"prefix": torch.tensor([[2], [END]])}, "must not hold the end"),
        ({}, {"prefix": torch.full((101, 1), 2)}, "prefix has 101 tokens.*max_length is 100"),
        ({}, {"prefix_lengths": [0]}, "no prefix"),
    ],
)
def test_rules_that_leave_nothing_to_write_are_refused(options, given, message):
    with pytest.raises(OptionError, match=message):
        Writer().run([0], Decoding(**options), **given)


@pytest.mark.parametrize(
    "given",
    [
        {"start": torch.tensor([1, 1])},
        {"start": torch.tensor([1.0])},
        {"prefix": torch.tensor([[1, 2]])},
        {"prefix": torch.tensor([[1.0]])},
        {"prefix": torch.tensor([[1]]), "prefix_lengths": [2]},
        {"source_lengths": [1, 2]},
    ],
)
def test_shapes_that_do_not_fit_are_refused(given):
    with pytest.raises(ShapeError, match=next(reversed(given))):
        Writer().run([0], Decoding(), **given)


def test_a_step_is_checked():
    def steps(logits, *more):
        return decode(lambda *_: (logits, None, *more), None, batch_size=2, start=0)

    with pytest.raises(ShapeError, match="logits must be .*N=2"):
        steps(torch.zeros(1, 2, 4))
    with pytest.raises(ShapeError, match="attention must be .*N=2"):
        steps(torch.zeros(2, 4), torch.zeros(1, 3))
    for broken in (math.nan, INF):
        with pytest.raises(RunError, match="not finite"):
            steps(torch.tensor([[0.0, 1.0], [0.0, broken]]))
    with pytest.raises(OptionError, match="coverage_penalty needs attention"):
        decode(
            lambda tokens, state: (torch.zeros(1, 4), state),
            None,
            batch_size=1,
            start=0,
            decoding=Decoding(coverage_penalty=1.0),
        )
