import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.data.core import examples as module
from elman.data.core.examples import Examples, write_examples
from elman.data.core.sealed import write_sealed
from elman.errors import DataError, OptionError, RunError, ShapeError


def example(i):
    rng = np.random.default_rng(i)
    return {
        "ids": rng.integers(0, 2**16, i % 5).astype(np.uint16),
        "wave": rng.normal(size=i % 3).astype(np.float32),
        "frames": rng.normal(size=(i % 4, 3)).astype(np.float32),
        "picture": rng.integers(0, 256, (2, 5, 3)).astype(np.uint8),
        "label": i - 2,
        "weight": i / 7,
        "text": f"€ {i}",
    }


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype, name
            assert np.array_equal(found[name], value), name
            assert found[name].shape == value.shape, name
        else:
            assert type(found[name]) is type(value) and found[name] == value, name


@pytest.mark.parametrize(("rows", "size"), [(3, 1 << 20), (1 << 20, 150), (1 << 20, 1 << 20)])
def test_examples_come_back_however_they_are_cut(rows, size, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH_ROWS", rows)
    monkeypatch.setattr(module, "BATCH_BYTES", size)
    written = write_examples(tmp_path / "a.arrow", (example(i) for i in range(20)))
    for examples in (written, Examples.open(tmp_path / "a.arrow")):
        assert len(examples) == 20
        for i in (0, 19, 7, 3, 4, -1):
            same(examples[i], example(i % 20))
        assert examples.sizes("ids").tolist() == [i % 5 for i in range(20)]
        assert examples.sizes("frames").tolist() == [i % 4 for i in range(20)]
        assert examples.numbers("label").tolist() == [i - 2 for i in range(20)]
        assert len(list(examples)) == 20
    assert [p.name for p in tmp_path.iterdir()] == ["a.arrow"]


def test_arrays_are_views_of_the_file(tmp_path):
    examples = write_examples(tmp_path / "a.arrow", (example(i) for i in range(12)))
    for name in ("ids", "wave", "frames"):
        array = examples[11][name]
        assert not array.flags.owndata and not array.flags.writeable
        again = examples[11][name]
        assert np.shares_memory(array, again)


def test_a_failure_amid_writing_leaves_what_was_there(tmp_path):
    write_examples(tmp_path / "a.arrow", [example(1)])

    def rows():
        yield example(2)
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        write_examples(tmp_path / "a.arrow", rows())
    same(Examples.open(tmp_path / "a.arrow")[0], example(1))
    assert [p.name for p in tmp_path.iterdir()] == ["a.arrow"]


def test_no_example_is_an_error(tmp_path):
    with pytest.raises(DataError, match="there is no example to write"):
        write_examples(tmp_path / "a.arrow", [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ids", np.ones(2, dtype=np.int64)),
        ("frames", np.ones((2, 4), dtype=np.float32)),
        ("frames", np.ones(2, dtype=np.float32)),
        ("picture", np.ones((5, 2, 3), dtype=np.uint8)),
        ("label", 1.5),
        ("text", 3),
        ("label", None),
        ("new", 1),
    ],
)
def test_rows_are_all_as_the_first(name, value, tmp_path):
    with pytest.raises(ShapeError, match="example 1: |column 'label' must be"):
        write_examples(tmp_path / "a.arrow", [example(0), {**example(1), name: value}])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [True, None, np.ones(3), np.ones((2, 2), dtype=np.int64), [1]])
def test_other_values_are_refused(value, tmp_path):
    with pytest.raises(ShapeError, match="column 'x' must be"):
        write_examples(tmp_path / "a.arrow", [{"x": value}])


def test_missing_foreign_and_cut_files_are_refused(tmp_path):
    path = tmp_path / "a.arrow"
    with pytest.raises(RunError, match=r"a\.arrow: cannot be read"):
        Examples.open(path)
    write_examples(path, (example(i) for i in range(99)))
    content = path.read_bytes()
    for damaged in (b"", b"ARROW1", content[:-1], content[: len(content) // 2], content[99:]):
        path.unlink()
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"a\.arrow: (is damaged|cannot be read).*train anew"):
            Examples.open(path)
    path.unlink()
    write_sealed(path, pa.schema([("a", pa.int64())]), [])
    with pytest.raises(RunError, match="holds no examples that elman wrote"):
        Examples.open(path)


def test_no_damaged_byte_leads_out_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH_ROWS", 4)
    path = tmp_path / "a.arrow"
    write_examples(path, (example(i) for i in range(9)))
    content = path.read_bytes()
    refused = 0
    # Arrow may end the process on such a file, and this test with it.
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.unlink()
        path.write_bytes(damaged)
        try:
            found = list(Examples.open(path))
        except RunError:
            refused += 1
        else:
            assert len(found) == 9
    assert refused > 0.7 * len(content) / 3


def test_columns_and_indices_that_are_not_there(tmp_path):
    examples = write_examples(tmp_path / "a.arrow", [example(0)])
    with pytest.raises(IndexError):
        examples[1]
    with pytest.raises(OptionError, match="unknown column 'idds': did you mean 'ids'"):
        examples.sizes("idds")
    with pytest.raises(ShapeError, match="'label' holds no arrays"):
        examples.sizes("label")
    with pytest.raises(ShapeError, match="'text' does not hold one number"):
        examples.numbers("text")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(-(2**63), 2**63 - 1)), st.text()), min_size=1))
def test_any_ids_and_any_text_come_back(rows):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        wanted = [{"x": np.array(ids, dtype=np.int64), "s": text} for ids, text in rows]
        examples = write_examples(Path(folder) / "a.arrow", wanted)
        for found, row in zip(examples, wanted, strict=True):
            same(found, row)
