"""The encoder-decoder against a loop over sentences, layers, steps and places."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from elman.errors import OptionError, ShapeError
from elman.layers import Bidirectional
from elman.models import EncoderDecoder
from tests.support import (
    assert_close,
    assert_equal,
    literal_loop,
    mapped,
    outputs_of,
    parts,
    randomise,
    zero_state,
)

SOURCES, TARGETS, START, END, H = 7, 6, 1, 2, 4
CELLS = ("lstm", "gru", "elman", "jordan", "projected-lstm", "slstm")
KINDS = (
    {},
    {"feed_context": True},
    *({"attention": kind} for kind in ("additive", "dot", "general")),
    *({"attention": kind, "input_feeding": True} for kind in ("additive", "dot", "general")),
)


@pytest.fixture(autouse=True)
def _in_float64(float64):
    """Ask for the fixture `float64` in every test of this file."""


def built(**options):
    given = {"start": START, "end": END, "hidden_size": H, "embedding_size": 3} | options
    return randomise(EncoderDecoder(SOURCES, TARGETS, **given))


def pairs(source_lengths=(3, 5, 0, 1), target_lengths=(2, 0, 4, 1), seed=0):
    """Sentences in padding that is no id of any vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for size, given in ((SOURCES, source_lengths), (TARGETS, target_lengths)):
        lengths = torch.tensor(given)
        ids = torch.randint(size, (int(lengths.max()), len(lengths)), generator=generator)
        found += [ids.masked_fill(torch.arange(len(ids))[:, None] >= lengths, -77), lengths]
    return found


def naive_encoder(model, source):
    """All outputs and the last states for one sentence, x: [S]."""
    x = model.encoder.embedding.weight[source][:, None]
    states = []
    for layer in model.encoder.stack.layers:
        both = isinstance(layer, Bidirectional)
        cells = [layer.forward_layer.cell, layer.backward_layer.cell] if both else [layer.cell]
        found, ends = [], []
        for cell, reverse in zip(cells, (False, True), strict=False):
            history, end = literal_loop(cell, x, zero_state(cell, 1), reverse=reverse)
            found.append(outputs_of(history) if len(x) else torch.zeros(0, 1, cell.output_size))
            ends.append(end)
        x = torch.cat(found, dim=-1)
        states.append(ends)
    return x[:, 0], states


def naive_bridge(model, states):
    first = []
    for number, (ends, layer) in enumerate(zip(states, model.decoder.stack.layers, strict=True)):
        cell = layer.cell
        if len(ends) == 1 and [e.shape[-1] for e in ends[0]] == [*cell.state_sizes.values()]:
            first.append(ends[0])
            continue
        h_only = "n" in cell.state_sizes  # the sLSTM: its other parts are scaled by its m
        read = torch.cat([p for end in ends for p in (end[:1] if h_only else end)], dim=-1)
        linear = model.bridge.maps[str(number)]
        s = torch.tanh(read @ linear.weight.T + linear.bias)
        start = list(zero_state(cell, 1))
        sizes = list(cell.state_sizes.values())[: 1 if h_only else None]
        start[: len(sizes)] = s.split(sizes, dim=-1)
        first.append(tuple(start))
    return first


def naive_score(attention, q, m):
    if attention.kind == "dot":
        return q @ m
    if attention.kind == "general":
        return q @ (attention.key.weight @ m)
    return attention.score @ torch.tanh(attention.query.weight @ q + attention.key.weight @ m)


def naive(model, source, target):
    """Logits [T + 1, V] for one pair of sentences."""
    decoder = model.decoder
    memory, ends = naive_encoder(model, source)
    states, fed, logits = naive_bridge(model, ends), torch.zeros(decoder.size), []
    for token in [START, *target.tolist()]:
        x = [decoder.embedding.weight[token]]
        if model.feed_context:
            x += [end[0][0] for end in ends[-1]]
        x = torch.cat([*x, fed] if decoder.input_feeding else x)[None]
        for number, layer in enumerate(decoder.stack.layers):
            states[number] = parts(layer.cell.step(x, *states[number]))
            x = states[number][0]
        hidden = x[0]
        if decoder.attention is not None:
            context = torch.zeros(memory.shape[1])
            if len(memory):
                e = torch.stack([naive_score(decoder.attention, hidden, m) for m in memory])
                context = e.softmax(0) @ memory
            hidden = torch.tanh(decoder.combine.weight @ torch.cat((context, hidden)))
            fed = hidden
        logits.append(decoder.output.weight @ hidden + decoder.output.bias)
    return torch.stack(logits)


MODELS = [
    {"cell": cell, "bidirectional": bidirectional, "num_layers": 2 if cell == "gru" else 1, **kind}
    for cell in CELLS
    for kind in KINDS
    for bidirectional in (False, True)
    if kind.get("attention") != "dot" or not bidirectional
]


def label(options):
    return "-".join(str(v) if isinstance(v, str) else k for k, v in options.items() if v) or "plain"


@pytest.mark.parametrize("options", MODELS, ids=label)
def test_a_batch_one_sentence_and_one_step_at_a_time_agree(options):
    model = built(**options)
    source, source_lengths, target, target_lengths = pairs()
    logits, weights = model(source, source_lengths, target, target_lengths)
    state = model.start_state(source, source_lengths)
    token = torch.full((4,), START)
    stepped, looked = [], []
    for t in range(len(target) + 1):
        found, state, seen = model.step(token, mapped(lambda s: s, state))
        stepped.append(found)
        looked.append(seen)
        token = target[t].clamp(min=0) if t < len(target) else None
    for b, (n, m) in enumerate(zip(source_lengths, target_lengths, strict=True)):
        expected = naive(model, source[:n, b], target[:m, b])
        assert_close(logits[: m + 1, b], expected)
        assert_close(torch.stack(stepped)[: m + 1, b], expected)
        if weights is not None:
            assert_close(weights[: m + 1, b], torch.stack(looked)[: m + 1, b])
            assert_close(weights[: m + 1, b].sum(-1), torch.full((m + 1,), float(n > 0)))
            assert not weights[: m + 1, b, n:].any()
    assert (weights is None) == ("attention" not in options)


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_the_loss_is_that_of_each_token_and_of_the_end(kind):
    model = built(**kind)
    source, source_lengths, target, target_lengths = pairs()
    loss = model.loss(source, source_lengths, target, target_lengths)
    expected = torch.zeros(())
    for b, (n, m) in enumerate(zip(source_lengths, target_lengths, strict=True)):
        truth = torch.tensor([*target[:m, b].tolist(), END])
        expected += cross_entropy(naive(model, source[:n, b], target[:m, b]), truth).mul(m + 1)
    assert_close(loss.total, expected.detach())
    assert loss.count == int(target_lengths.sum()) + 4


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_every_parameter_has_a_finite_gradient_and_padding_none(kind):
    model = built(num_layers=2, cell="gru", bidirectional="dot" not in kind.values(), **kind)
    source, source_lengths, target, target_lengths = pairs()
    found = []
    for pad in (-77, 10**6):
        model.zero_grad()
        loss = model.loss(
            source.where(source >= 0, pad), source_lengths, target.where(target >= 0, pad),
            target_lengths,
        )  # fmt: skip
        loss.total.backward()
        found.append((loss.total.detach(), *[p.grad for p in model.parameters()]))
    assert_equal(found[0], found[1])
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
        assert torch.isfinite(parameter.grad).all(), name


def test_longer_padding_changes_nothing():
    model = built(attention="additive", bidirectional=True)
    source, source_lengths, target, target_lengths = pairs()
    longer = [torch.cat((x, torch.full((3, 4), -5))) for x in (source, target)]
    expected = model.loss(source, source_lengths, target, target_lengths).total
    assert_close(model.loss(longer[0], source_lengths, longer[1], target_lengths).total, expected)


def test_sentences_without_a_word_can_be_all():
    model = built(attention="general", input_feeding=True, bidirectional=True)
    nothing, none = torch.zeros(0, 2, dtype=torch.long), torch.tensor([0, 0])
    loss = model.loss(nothing, none, nothing, none)
    assert loss.count == 2
    loss.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_rows_of_the_state_can_be_reordered(kind):
    model = built(num_layers=2, **kind)
    source, lengths, *_ = pairs()
    order = torch.tensor([3, 0, 0, 2, 1])
    _, state, _ = model.step(torch.full((4,), START), model.start_state(source, lengths))
    tokens = torch.tensor([4, 3, 5, 0])
    logits, _, weights = model.step(tokens, state)
    chosen = mapped(lambda s: s.index_select(0, order), state)
    found, _, seen = model.step(tokens[order], chosen)
    assert_close(found, logits[order])
    if weights is not None:
        assert_close(seen, weights[order])


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "attention": "additive"}])
def test_a_reversed_source_is_the_source_from_its_end(options):
    model = built(reverse_source=True, **options)
    source, lengths, target, target_lengths = pairs()
    found, weights = model(source, lengths, target, target_lengths)
    model.reverse_source = False
    for b, (n, m) in enumerate(zip(lengths, target_lengths, strict=True)):
        back, other = model(source[:n, b].flip(0), None, target[:m, b])
        assert_close(found[: m + 1, b], back[:, 0])
        if weights is not None:
            assert_close(weights[: m + 1, b, :n], other[:, 0].flip(-1))


@pytest.mark.parametrize("kind", [{}, {"attention": "additive", "input_feeding": True}], ids=label)
def test_sampling_feeds_the_words_that_the_model_has_drawn(kind):
    model = built(**kind)
    with torch.no_grad():  # so sure of itself that each draw is the likeliest word
        model.decoder.output.weight.mul_(1e4)
        model.decoder.embedding.weight.mul_(5)
    source, source_lengths, target, target_lengths = pairs()
    inputs, _, lengths = model._teacher_forced(target, target_lengths, source)
    fed = inputs.clone()
    state = model.start_state(source, source_lengths)
    for t in range(len(inputs)):
        logits, state, _ = model.step(fed[t], state)
        if t + 1 < len(inputs):
            fed[t + 1] = logits.argmax(-1)
    assert (fed[2:] != fed[1]).any()  # else a word of another step could not be told apart
    expected, _ = model.decoder(fed, model.start_state(source, source_lengths), lengths)
    found, _ = model.decoder(inputs, model.start_state(source, source_lengths), lengths, 1.0)
    valid = torch.arange(len(inputs))[:, None] < lengths
    assert_close(found[valid], expected[valid])
    never, _ = model.decoder(inputs, model.start_state(source, source_lengths), lengths, 1e-300)
    taught, _ = model.decoder(inputs, model.start_state(source, source_lengths), lengths)
    assert_close(never[valid], taught[valid])


def test_the_words_drawn_follow_the_softmax_and_the_rate():
    model = built()
    with torch.no_grad():
        model.decoder.embedding.weight[:, 0] = torch.arange(TARGETS).double()
    hidden = torch.randn(H).expand(40000, H)
    drawn = torch.arange(40000) % 4 > 0
    u = model.decoder._own(torch.full((40000, 3), -1.0), hidden, drawn)[:, 0].long()
    assert (u[~drawn] == -1).all()
    shares = torch.bincount(u[drawn], minlength=TARGETS) / drawn.sum()
    expected = model.decoder.output(hidden[0]).softmax(-1)
    assert (shares - expected).abs().max() < 0.015


def test_sampling_draws_at_every_step_and_for_every_sentence(monkeypatch):
    model, draws = built(attention="dot"), []
    own = model.decoder._own
    monkeypatch.setattr(
        model.decoder, "_own", lambda u, h, drawn: draws.append(drawn) or own(u, h, drawn)
    )
    words = torch.randint(TARGETS, (3, 2000))
    model.loss(words, None, words, None, scheduled_sampling=0.3).total.backward()
    drawn = torch.stack(draws).double()
    assert drawn.shape == (3, 2000)
    assert (drawn.mean(1) - 0.3).abs().max() < 0.05
    assert (torch.corrcoef(drawn) - torch.eye(3)).abs().max() < 0.1
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match="scheduled_sampling"):
            model.loss(*pairs(), scheduled_sampling=wrong)


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_mixed_precision_is_near_to_full(kind):
    torch.set_default_dtype(torch.float32)
    model = built(cell="gru", bidirectional="dot" not in kind.values(), **kind)
    full = model.loss(*pairs()).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.loss(*pairs()).total
        model.loss(*pairs(), scheduled_sampling=0.5).total.backward()
    assert abs(mixed - full) < 0.05 * full
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_label_smoothing_is_of_training_alone():
    model, plain = built(label_smoothing=0.1), built()
    plain.load_state_dict(model.state_dict())
    source, source_lengths, target, target_lengths = pairs()
    nll = plain.loss(source, source_lengths, target, target_lengths).total
    spread = torch.zeros(())
    for b, (n, m) in enumerate(zip(source_lengths, target_lengths, strict=True)):
        spread -= naive(plain, source[:n, b], target[:m, b]).log_softmax(-1).mean(-1).sum()
    smooth = model.loss(source, source_lengths, target, target_lengths).total
    assert_close(smooth, 0.9 * nll + 0.1 * spread)
    assert_close(model.eval().loss(source, source_lengths, target, target_lengths).total, nll)


def test_the_plan_says_what_waits_for_each_step():
    assert built(attention="dot").plan().by_step == ""
    assert "decoder: all steps in one call" in str(built().plan())
    assert "scheduled sampling" in built().plan(scheduled_sampling=0.2).by_step
    plan = built(attention="dot", input_feeding=True, bidirectional=False).plan()
    assert "decoder: one step at a time: with input feeding attention is part" in str(plan)
    assert "encoder.layers.0: LSTM on" in str(plan)
    assert "decoder.layers.0: LSTM on" in str(plan)


@pytest.mark.parametrize("kind", [{}, {"attention": "general", "input_feeding": True}], ids=label)
def test_calls_of_the_stack_are_what_the_plan_says(kind, monkeypatch):
    model, calls = built(**kind), []
    run = model.decoder.stack.run
    monkeypatch.setattr(
        model.decoder.stack, "run", lambda x, *rest: calls.append(len(x)) or run(x, *rest)
    )
    model.loss(*pairs())
    assert calls == ([1] * 5 if model.plan().by_step else [5])


def test_tied_weights_are_one_matrix():
    model = built(tie_weights=True, attention="additive", input_feeding=True)
    assert model.decoder.output.weight is model.decoder.embedding.weight
    assert model(*pairs())[0].shape == (5, 4, TARGETS)
    assert built(tie_weights=True, embedding_size=H)
    with pytest.raises(OptionError, match="must have one size"):
        built(tie_weights=True)


def test_encoder_and_decoder_can_be_of_different_cells():
    model = built(cell="lstm", num_layers=2, decoder_options={"cell": "slstm"}, attention="dot")
    source, source_lengths, target, target_lengths = pairs()
    state = model.start_state(source, source_lengths).layers
    h, c, n, m = state[1]
    assert h.abs().sum() > 0
    assert not torch.cat((c, n, m)).any()
    assert torch.isfinite(model.loss(source, source_lengths, target, target_lengths).total)


def test_a_state_of_the_same_parts_is_copied():
    model = built(num_layers=2, cell="gru")
    source, lengths, *_ = pairs()
    x = source.clamp(min=0)
    _, last = model.encoder(x, lengths)
    assert_equal(model.start_state(source, lengths).layers, last)
    assert list(model.bridge.parameters()) == []


def test_what_cannot_be_is_refused():
    for message, options in {
        "choose a kind of attention": {"input_feeding": True},
        "without attention": {"feed_context": True, "attention": "dot"},
        "kind='general'": {"attention": "dot", "bidirectional": True},
        "end must be an id of the target, 0 ... 5, got 6": {"end": 6},
        "label_smoothing": {"label_smoothing": 1.0},
        "did you mean 'general'": {"attention": "generl"},
        "state_dropout of a layer is drawn once": {
            "attention": "additive", "input_feeding": True, "state_dropout": 0.1,
        },
    }.items():  # fmt: skip
        with pytest.raises(OptionError, match=message):
            built(**options)
    assert built(
        attention="additive", input_feeding=True, weight_drop=0.1,
        decoder_options={"weight_drop": 0.0},
    )  # fmt: skip
    model = built(state_dropout=0.1)
    with pytest.raises(OptionError, match="scheduled sampling runs"):
        model.loss(*pairs(), scheduled_sampling=0.5)
    source, source_lengths, target, target_lengths = pairs()
    with pytest.raises(ShapeError, match="source has 3 sequences, target 4"):
        model.loss(source[:, :3], source_lengths[:3], target, target_lengths)
    with pytest.raises(ShapeError, match=r"lengths must lie in 0 ... T = 4, got 5 at b=0"):
        model.loss(source, source_lengths, target, target_lengths + 3)
    with pytest.raises(ShapeError, match="0 ... 6, got"):
        model.loss(source + 7, source_lengths, target, target_lengths)


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "gru", "attention": "additive", "bidirectional": True},
        {"cell": "lstm", "attention": "general", "input_feeding": True, "tie_weights": True},
        {"cell": "lstm", "feed_context": True},
    ],
    ids=label,
)
def test_words_can_be_learnt_to_be_reversed(options):
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    model = EncoderDecoder(12, 12, start=0, end=1, hidden_size=48, dropout=0.05, **options)
    source = torch.randint(2, 12, (5, 24))
    lengths = torch.randint(0, 6, (24,))
    target = source[(lengths - 1 - torch.arange(5)[:, None]).clamp(min=0), torch.arange(24)]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        model.loss(source, lengths, target, lengths, scheduled_sampling=0.1).mean.backward()
        optimizer.step()
    model.eval()
    assert model.loss(source, lengths, target, lengths).mean < 0.05
    state, token = model.start_state(source, lengths), torch.full((24,), 0)
    for t in range(6):
        logits, state, _ = model.step(token, state)
        token = logits.argmax(-1)
        inside = t <= lengths
        expected = torch.where(t < lengths, target[min(t, 4)], 1)
        assert_equal(token[inside], expected[inside])


def test_a_model_comes_back_from_its_state_dict():
    options = {"attention": "additive", "input_feeding": True, "bidirectional": True}
    model, other = built(**options), built(**options)
    other.load_state_dict(model.state_dict())
    assert_equal(other(*pairs())[0], model(*pairs())[0])
