"""Scores against a second way to compute them."""

import random
import re

import pytest
import torch

from elman.errors import DataError, ShapeError
from elman.models.common import scores
from elman.models.text.spans import Span, is_bio, spans

TYPES = ("PER", "LOC", "date.from-to")
TAGS = ["O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in TYPES)]


def conlleval(predicted, target):
    """Counts (correct, predicted, target) as conlleval's own loop over lines finds them."""
    counts = [0, 0, 0]
    inside = False
    last = [("O", ""), ("O", "")]
    for ours, theirs in zip(predicted, target, strict=True):
        for tags in zip(
            [*ours, "O"], [*theirs, "O"], strict=True
        ):  # the empty line ends a sentence
            now = [re.match(r"([^-]*)-?(.*)", tag).groups() for tag in tags]
            ends = [_ends(*a, *b) for a, b in zip(last, now, strict=True)]
            starts = [_starts(*a, *b) for a, b in zip(last, now, strict=True)]
            if inside:
                if all(ends) and last[0][1] == last[1][1]:
                    inside = False
                    counts[0] += 1
                elif ends[0] != ends[1] or now[0][1] != now[1][1]:
                    inside = False
            if all(starts) and now[0][1] == now[1][1]:
                inside = True
            counts[1] += starts[0]
            counts[2] += starts[1]
            last = now
    return counts


def _ends(before, its_type, tag, kind):
    pairs = [("B", "B"), ("B", "O"), ("I", "B"), ("I", "O")]
    return (before, tag) in pairs or (before != "O" and its_type != kind)


def _starts(before, its_type, tag, kind):
    pairs = [("B", "B"), ("I", "B"), ("O", "B"), ("O", "I")]
    return (before, tag) in pairs or (tag != "O" and its_type != kind)


def drawn(rng, like=None):
    """A few sentences; near to another draw where one is given."""
    if like is None:
        return [[rng.choice(TAGS) for _ in range(rng.randrange(9))] for _ in range(6)]
    return [[tag if rng.random() < 0.8 else rng.choice(TAGS) for tag in tags] for tags in like]


@pytest.mark.parametrize("seed", range(30))
def test_spans_are_counted_as_conlleval_counts_them(seed):
    rng = random.Random(seed)
    target = drawn(rng)
    predicted = drawn(rng, target)
    sums = scores.span_counts(predicted, target, TYPES)
    overall = [sums[f"spans_{what}"] for what in ("correct", "predicted", "target")]
    assert overall == conlleval(predicted, target)
    assert overall[1] > 0 and overall[2] > 0
    for position, what in enumerate(("correct", "predicted", "target")):
        assert sum(sums[f"spans_{what}.{kind}"] for kind in TYPES) == overall[position]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-X I-X O", [("X", 0, 2)]),
        ("I-X I-X", [("X", 0, 2)]),
        ("B-X B-X", [("X", 0, 1), ("X", 1, 2)]),
        ("B-X I-Y", [("X", 0, 1), ("Y", 1, 2)]),
        ("O I-X B-X I-X", [("X", 1, 2), ("X", 2, 4)]),
        ("B-a-b I-a-b", [("a-b", 0, 2)]),
        ("B I O I", [("", 0, 2), ("", 3, 4)]),
    ],
)
def test_spans_by_hand(tags, expected):
    assert spans(tags.split()) == [Span(*span) for span in expected]


def test_a_tag_of_another_scheme_is_refused():
    with pytest.raises(DataError, match="'S-X' marks no span"):
        spans(["O", "S-X"])
    assert is_bio(["O", "B-X"]) and not is_bio(["O", "N"]) and not is_bio(["O"])


def test_scores_of_spans_by_hand():
    target = [["B-X", "I-X", "O", "B-Y"], ["B-X"]]
    predicted = [["B-X", "I-X", "O", "B-X"], ["O"]]
    sums = scores.span_counts(predicted, target, ["X", "Y", "Z"])
    assert scores.span_scores(sums) == pytest.approx(
        {"precision": 1 / 2, "recall": 1 / 3, "f1": 0.4}
    )
    assert scores.span_scores(sums, "X")["f1"] == 0.5
    assert scores.span_scores(sums, "Y") == {"precision": 0, "recall": 0, "f1": 0}
    assert scores.span_scores(sums, "Z")["f1"] == 0


def test_sums_of_batches_are_the_sums_of_all():
    rng = random.Random(0)
    target = drawn(rng)
    predicted = drawn(rng, target)
    parts = [scores.span_counts(predicted[i : i + 2], target[i : i + 2], TYPES) for i in (0, 2, 4)]
    whole = scores.span_counts(predicted, target, TYPES)
    assert scores.added(scores.added(parts[0], parts[1]), parts[2]) == whole
    assert list(scores.span_counts([], [], TYPES)) == list(whole)


def test_a_frame_is_right_where_everything_is():
    target = [["O"], ["B-X", "I-X"], []]
    assert scores.frame_counts(target, target) == {"frames_correct": 3, "frames": 3}
    sums = scores.frame_counts([["O"], ["B-X", "O"], []], target, ["a", "b", "c"], ["a", "b", "d"])
    assert scores.frame_accuracy(sums) == pytest.approx(1 / 3)
    with pytest.raises(ShapeError, match="give both or none"):
        scores.frame_counts(target, target, ["a"])
    with pytest.raises(ShapeError, match="one shape"):
        scores.frame_counts(target, target, ["a"], ["a"])


def random_ids(seed, count=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(count, (7, 5), generator=generator)


LENGTHS = torch.tensor([3, 0, 7, 1, 5])


def test_accuracy_of_valid_steps():
    a, b = random_ids(0, 2), random_ids(1, 2)
    pairs = [(int(a[t, i]), int(b[t, i])) for i, n in enumerate(LENGTHS) for t in range(n)]
    sums = scores.accuracy_counts(a, b, LENGTHS)
    assert sums == {"correct": sum(x == y for x, y in pairs), "compared": 16}
    assert scores.accuracy(sums) == sums["correct"] / 16
    assert scores.accuracy(scores.accuracy_counts(a[:0], b[:0])) == 0
    with pytest.raises(ShapeError, match="one shape"):
        scores.accuracy_counts(a, b[:1])


def test_confusion_and_macro_f1():
    names = ["a", "b", "c", "d"]
    a, b = random_ids(0, 3), random_ids(1, 2)
    garbage = torch.arange(7)[:, None] >= LENGTHS
    a, b = a.masked_fill(garbage, -3), b.masked_fill(garbage, 99)
    pairs = [(int(a[t, i]), int(b[t, i])) for i, n in enumerate(LENGTHS) for t in range(n)]
    table = scores.confusion(scores.confusion_counts(a, b, names, LENGTHS), names)
    f1 = []
    for i in range(4):
        for j in range(4):
            assert table[i, j] == pairs.count((j, i))
        hits = pairs.count((i, i))
        found, wanted = sum(x == i for x, _ in pairs), sum(y == i for _, y in pairs)
        if found + wanted:
            p, r = hits / max(found, 1), hits / max(wanted, 1)
            f1.append(2 * p * r / (p + r) if p + r else 0)
    assert len(f1) == 3
    sums = scores.class_counts(a, b, names, LENGTHS)
    assert scores.macro_f1(sums, names) == pytest.approx(sum(f1) / 3)
    assert scores.class_scores(sums, "a")["f1"] == pytest.approx(f1[0])
    with pytest.raises(ShapeError, match="predicted must lie in 0 ... 1"):
        scores.class_counts(a, b, names[:2], LENGTHS)


def test_what_is_on_in_frames():
    a = torch.tensor([[[1, 1, 0]], [[1, 0, 0]]]).bool()
    b = torch.tensor([[[1.0, 0.0, 1.0]], [[1.0, 1.0, 1.0]]])
    sums = scores.multi_label_counts(a, b, torch.tensor([1]))
    assert sums == {"on_correct": 1, "on_predicted": 2, "on_target": 2}
    assert scores.multi_label_scores(sums)["accuracy"] == pytest.approx(1 / 3)
    assert scores.multi_label_scores(scores.multi_label_counts(a, b))["f1"] == 4 / 8


def test_tags_by_name():
    ids = torch.tensor([[0, 1], [1, 0], [1, 1]])
    assert scores.named(ids, ["O", "B-X"], [2, 0]) == [["O", "B-X"], []]
    assert scores.named(ids, ["O", "B-X"])[1] == ["B-X", "O", "B-X"]
