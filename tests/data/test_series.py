import numpy as np
import pytest

from elman.data.series.labelled import labelled_series
from elman.errors import DataError, OptionError

HEAD = "# a comment\n@problemName p\n@timeStamps false\n@univariate false\n@dimensions 2\n"
TS = HEAD + "@classLabel true a b\n@data\n"


def ts(tmp_path, content):
    (tmp_path / "a.ts").write_text(content, encoding="utf-8")
    return [tmp_path / "a.ts"]


def test_series_of_a_ts_file_have_their_own_lengths(tmp_path):
    source = labelled_series(ts(tmp_path, TS + "1,2,3:4,5,6.5:a\n\n-1e-3:7:b\n"))
    first, second = list(source)
    assert first.values.tolist() == [[1, 4], [2, 5], [3, 6.5]]
    assert first.values.dtype == np.float32
    assert second.values.shape == (1, 2)
    assert [first.label, second.label] == ["a", "b"]
    assert second.where.endswith("a.ts: line 10")
    assert source.skipped.counts == {"empty line": 1}


def test_steps_that_miss_all_at_the_end_are_cut_and_series_without_a_step_skipped(tmp_path):
    source = labelled_series(ts(tmp_path, TS + "1,2,?,?:4,5,?,NaN:a\n?,?:?,?:b\n::b\n"))
    (only,) = list(source)
    assert only.values.tolist() == [[1, 4], [2, 5]]
    assert source.skipped.counts == {
        "series cut where only missing values follow": 2,
        "series without a step": 2,
    }


@pytest.mark.parametrize(
    ("missing", "values"),
    [("zero", [[0, 4], [2, 0], [0, 6]]), ("carry", [[0, 4], [2, 4], [2, 6]])],
)
def test_missing_values_are_filled_as_told_and_counted(missing, values, tmp_path):
    source = labelled_series(ts(tmp_path, TS + "?,2,?:4,?,6:a\n"), missing=missing)
    assert next(iter(source)).values.tolist() == values
    assert source.skipped.counts == {f"missing value filled ({missing})": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TS + "1,2:3,?:a\n", r"line 8: a value is missing \(step 1, channel 1\).*--missing carry"),
        (TS + "1,2:3:a\n", "line 8: channel 2 has 1 values, channel 1 has 2"),
        (TS + "1,2:a\n", "line 8: has 1 channels, @dimensions says 2"),
        (TS + "1:2:c\n", "line 8: must end in :label, one of a, b, got 'c'"),
        (TS + "1:x:a\n", "line 8: could not convert string to float: 'x'"),
        (TS + "1:1e50:a\n", r"line 8: a value is infinite in float32 \(step 0, channel 1\)"),
        (HEAD + "@data\n1:2:a\n", "has no labels"),
        ("@timeStamps true\n@classLabel true a\n@data\n", "has time stamps"),
        ("1,2:3,4:a\n", "line 1: is neither a comment"),
        ("@problemName p\n", "has no @data line"),
    ],
)
def test_what_is_wrong_with_a_ts_file_is_said(content, message, tmp_path):
    with pytest.raises(DataError, match=rf"a\.ts: {message}"):
        list(labelled_series(ts(tmp_path, content)))


@pytest.mark.parametrize("features", [None, 3])
def test_arrays_of_a_npz_file_are_cut_to_their_lengths(features, tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 5, *([features] if features else [])))
    x[0, 2:] = np.nan
    lengths = np.array([2, 5, 0, 1])
    np.savez(tmp_path / "a.npz", x=x, lengths=lengths, y=np.array([1.0, 0, 1, 7]))
    source = labelled_series([tmp_path / "a.npz"])
    found = list(source)
    assert [series.label for series in found] == ["1", "0", "7"]
    for series, i in zip(found, (0, 1, 3), strict=True):
        wanted = x[i, : lengths[i]].reshape(lengths[i], features or 1)
        assert np.array_equal(series.values, wanted.astype(np.float32))
    assert source.skipped.counts == {"series without a step": 1}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((2, 3))}, "has no array 'y', it has x; np.savez"),
        ({"x": np.ones(3), "y": np.ones(3)}, r"x must be numbers .* got float64 \[3\]"),
        ({"x": np.ones((2, 3)), "y": np.ones(3)}, r"y must be \[N\] = \[2\], got float64 \[3\]"),
        ({"x": np.full((2, 3), "a"), "y": np.ones(2)}, "x must be numbers"),
        (
            {"x": np.ones((2, 3)), "y": np.ones(2), "lengths": np.array([1, 4])},
            r"lengths must lie in 0 \.\.\. T = 3, got 1 \.\.\. 4",
        ),
        (
            {"x": np.ones((2, 3)), "y": np.ones(2), "lengths": np.ones(2)},
            "lengths must be whole numbers",
        ),
        ({"x": np.array([[1], None], dtype=object), "y": np.ones(2)}, "plain arrays"),
    ],
)
def test_what_is_wrong_with_a_npz_file_is_said(arrays, message, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=rf"a\.npz: .*{message}|a\.npz: {message}"):
        list(labelled_series([tmp_path / "a.npz"]))


def test_a_damaged_npz_file_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((9, 9)), y=np.ones(9))
    content = (tmp_path / "a.npz").read_bytes()
    for damaged in (content[:100], b"no zip", content[:-40]):
        (tmp_path / "a.npz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.npz: cannot be read as \.npz"):
            list(labelled_series([tmp_path / "a.npz"]))


def test_a_row_of_numbers_is_a_series_of_steps(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("1,2,3,4,5,6,b\n6,5,4,3,,,a\n", encoding="utf-8")
    first, second = list(labelled_series([file], step_size=2, header=False))
    assert first.values.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert second.values.tolist() == [[6, 5], [4, 3]]
    assert [first.label, second.label] == ["b", "a"]
    assert next(iter(labelled_series([file], header=False))).values.shape == (6, 1)


def test_the_column_of_labels_is_found_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("t0,class,t1\n1,x,2\n", encoding="utf-8")
    (series,) = labelled_series([tmp_path / "a.csv"])
    assert series.values.tolist() == [[1], [2]] and series.label == "x"


def test_a_cell_may_hold_the_list_of_steps(tmp_path):
    lines = '{"x": [[1, 2], [3, 4]], "label": 0}\n{"label": 1, "x": [[5, null]]}\n'
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    first, second = list(labelled_series([tmp_path / "a.jsonl"], missing="zero"))
    assert first.values.tolist() == [[1, 2], [3, 4]]
    assert second.values.tolist() == [[5, 0]]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("1,2,3,a\n", {"step_size": 2}, "line 1: 3 values make no whole number of steps of 2"),
        ("1,2,a\n1,x,a\n", {}, "line 2: '2' must be a number, got 'x'.*--label-column"),
        ("a,b\n1,2\n", {"header": True}, "which column is the label"),
    ],
)
def test_what_is_wrong_with_a_table_of_numbers_is_said(content, options, message, tmp_path):
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        list(labelled_series([tmp_path / "a.csv"], **{"header": False, **options}))


def test_steps_are_of_one_size_in_all_series(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": [[1, 2]], "label": 0}\n{"x": [1], "label": 0}')
    with pytest.raises(DataError, match="line 2: has 1 values a step, the first 2"):
        list(labelled_series([tmp_path / "a.jsonl"]))


def test_options_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(OptionError, match="unknown rule for missing values 'cary': did you mean"):
        labelled_series(ts(tmp_path, TS), missing="cary")
    with pytest.raises(OptionError, match="step_size is for tables"):
        labelled_series(ts(tmp_path, TS), step_size=2)
    with pytest.raises(DataError, match=r"a\.wav: series are read from \.ts"):
        labelled_series([tmp_path / "a.wav"])


def test_series_without_labels(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    np.savez(tmp_path / "a.npz", x=x)
    (tmp_path / "b.ts").write_text("@dimensions 2\n@classLabel false\n@data\n0,2,4:1,3,5\n")
    (tmp_path / "c.csv").write_text("a,b,label,c,d\n0,1,x,2,3\n4,5,y,6,7\n")
    (tmp_path / "d.csv").write_text("0,1,2,3\n")
    for name, options, wanted in (
        ("a.npz", {}, [x[0], x[1]]),
        ("b.ts", {}, [x[0]]),
        ("c.csv", {"step_size": 2}, [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]),
        ("d.csv", {"header": False, "step_size": 2}, [[[0, 1], [2, 3]]]),
    ):
        found = list(labelled_series([tmp_path / name], labelled=False, **options))
        assert [r.label for r in found] == [""] * len(wanted)
        for record, values in zip(found, wanted, strict=True):
            assert (record.values == np.array(values)).all()
