from itertools import chain, combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.data.core import batches as module
from elman.data.core.batches import Batched, collate
from elman.data.core.examples import write_examples
from elman.errors import OptionError, ShapeError


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    sizes = np.random.default_rng(0).integers(0, 50, 103)
    rows = ({"x": np.full(n, i), "i": i, "s": str(i)} for i, n in enumerate(sizes))
    return write_examples(tmp_path_factory.mktemp("examples") / "a.arrow", rows)


def seen(batched, steps):
    return [batched.batch(step).tensors["i"].tolist() for step in steps]


KINDS = [{"shuffle": shuffle, "bucket_by": by} for shuffle in (True, False) for by in (None, "x")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 103, 200])
def test_a_pass_has_each_example_once(kind, size, examples):
    batched = Batched(examples, size, seed=1, **kind)
    for start in (0, 3 * len(batched)):
        found = seen(batched, range(start, start + len(batched)))
        assert sorted(chain.from_iterable(found)) == list(range(103))
        assert sorted(map(len, found))[1:] == [size] * (len(batched) - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_a_function_of_its_step(kind, examples):
    straight = Batched(examples, 8, seed=5, **kind)
    once = seen(straight, range(40))
    jumping = Batched(examples, 8, seed=5, **kind)
    for step in (39, 0, 17, 14, 13, 39):
        assert seen(jumping, [step]) == [once[step]]
        assert seen(Batched(examples, 8, seed=5, **kind), [step]) == [once[step]]


@pytest.mark.parametrize("by", [None, "x"])
def test_passes_and_seeds_have_their_own_order(by, examples):
    first = Batched(examples, 8, seed=1, bucket_by=by)
    other = Batched(examples, 8, seed=2, bucket_by=by)
    steps = range(len(first))
    orders = [seen(first, steps), seen(first, range(13, 26)), seen(other, steps)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    # Not only the batches are drawn anew, but what shares one.
    shared = [{frozenset(batch) for batch in order} for order in orders]
    assert all(len(a & b) < 4 for a, b in combinations(shared, 2))


def test_without_shuffling_the_order_is_that_of_the_examples(examples):
    batched = Batched(examples, 8, shuffle=False)
    found = seen(batched, range(len(batched)))
    assert list(chain.from_iterable(found)) == list(range(103))


def test_a_batch_has_examples_of_about_one_length(examples, monkeypatch):
    sizes = examples.sizes("x")

    def spread(batched):
        steps = range(len(batched))
        return np.mean([np.ptp(sizes[batched.indices(step)]) for step in steps])

    bucketed = Batched(examples, 8, seed=1, bucket_by="x")
    # One pool holds all here, so the batches are stretches of the sorted lengths.
    assert spread(bucketed) == pytest.approx(50 / 13, abs=4)
    assert spread(Batched(examples, 8, seed=1)) > 30
    monkeypatch.setattr(module, "POOL", 2)
    assert 8 < spread(Batched(examples, 8, seed=1, bucket_by="x")) < 30


def test_short_and_long_batches_are_mixed(examples):
    sizes = examples.sizes("x")
    batched = Batched(examples, 4, seed=1, bucket_by="x")
    means = [sizes[batched.indices(step)].mean() for step in range(len(batched))]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_a_batch(kind, ranks, examples):
    batched = Batched(examples, 8, seed=1, **kind)
    for step in range(2 * len(batched)):
        whole = batched.indices(step)
        shares = [batched.indices(step, slice(rank, None, ranks)) for rank in range(ranks)]
        assert sorted(np.concatenate(shares)) == sorted(whole)
        one = batched.batch(step, slice(1, None, ranks))
        assert one.tensors["i"].tolist() == shares[1].tolist()
        assert one.texts["s"] == [str(i) for i in shares[1]]
        assert one.tensors["x"].shape == (examples.sizes("x")[shares[1]].max(), len(shares[1]))


def test_a_share_may_be_empty(examples):
    batched = Batched(examples, 103, shuffle=False)
    batch = batched.batch(0, slice(0, 0))
    assert batch.tensors["x"].shape == (0, 0) and batch.tensors["x"].dtype == torch.int64
    assert batch.tensors["x_lengths"].shape == batch.tensors["i"].shape == (0,)
    assert batch.texts == {"s": []}


def test_every_batch_begins_anew(examples):
    batched = Batched(examples, 8)
    assert all(batched.batch(step).first for step in range(len(batched)))


def test_what_makes_no_sense_is_refused(examples):
    with pytest.raises(OptionError, match="batch_size must be a whole number above 0"):
        Batched(examples, 0)
    with pytest.raises(OptionError, match="seed must be"):
        Batched(examples, 1, seed=-1)
    with pytest.raises(OptionError, match="unknown column 'y'"):
        Batched(examples, 1, bucket_by="y")


ROW = st.fixed_dictionaries(
    {
        "ids": st.lists(st.integers(-5, 2**40), max_size=6).map(np.array),
        "frames": st.integers(0, 5).map(
            lambda n: np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)
        ),
        "wave": st.integers(0, 5).map(lambda n: np.arange(n, dtype=np.float32) + 1),
        "label": st.integers(-(2**62), 2**62),
        "weight": st.floats(-1e9, 1e9),
        "text": st.text(),
    }
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=5))
def test_collate_pads_and_loses_nothing(rows):
    for row in rows:
        row["ids"] = row["ids"].astype(np.int64)
    batch = collate(rows)
    for name in ("ids", "frames", "wave"):
        padded, lengths = batch.tensors[name], batch.tensors[f"{name}_lengths"]
        assert padded.dtype == (torch.int64 if name == "ids" else torch.float32)
        assert lengths.dtype == torch.int64
        assert padded.shape[:2] == (max(len(row[name]) for row in rows), len(rows))
        for b, row in enumerate(rows):
            assert lengths[b] == len(row[name])
            assert np.array_equal(padded[: lengths[b], b].numpy(), row[name])
            assert not padded[lengths[b] :, b].any()
    assert batch.tensors["label"].tolist() == [row["label"] for row in rows]
    weights = np.array([row["weight"] for row in rows], dtype=np.float32)
    assert np.array_equal(batch.tensors["weight"].numpy(), weights)
    assert batch.texts == {"text": [row["text"] for row in rows]}
    assert "text" not in batch.tensors


def test_pictures_are_stacked_and_a_share_of_none_keeps_their_size(tmp_path):
    rows = [{"x": np.arange(i), "picture": np.full((2, 4, 3), i, dtype=np.uint8)} for i in range(5)]
    batched = Batched(write_examples(tmp_path / "a.arrow", rows), 5, shuffle=False)
    pictures = batched.batch(0).tensors["picture"]
    assert pictures.dtype == torch.uint8 and pictures.shape == (5, 2, 4, 3)
    assert pictures[:, 1, 3, 2].tolist() == [0, 1, 2, 3, 4]
    assert batched.batch(0, slice(5, None)).tensors["picture"].shape == (0, 2, 4, 3)
    with pytest.raises(ShapeError, match="one size"):
        collate([rows[0], {"x": np.arange(1), "picture": np.zeros((4, 2, 3), dtype=np.uint8)}])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one row"),
        ([{"x": 1}, {"y": 1}], "column 'x' is missing"),
        ([{"x": np.ones((1, 2))}, {"x": np.ones((1, 3))}], r"'x' must be .*\[1, 2\] and \[1, 3\]"),
        ([{"x": np.ones((1, 2, 3))}], r"'x' must be \[T\] or \[T, F\]"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, message):
    with pytest.raises(ShapeError, match=message):
        collate(rows)
