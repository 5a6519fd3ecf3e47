from pathlib import Path

import pytest

from elman.data.core.records import RecordSource, split
from elman.data.text.labelled import labelled_texts, labels_of_files
from elman.errors import DataError, OptionError


def written(path, content, encoding="utf-8"):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode(encoding))
    return path


def pairs(source):
    return [(record.text, record.label) for record in source]


def test_tables_of_the_same_columns_are_read_as_one(tmp_path):
    a = written(tmp_path / "a.csv", "id,review,sentiment\n1,good,pos\n2,  ,neg\n3,bad,\n")
    b = written(
        tmp_path / "b.jsonl", '{"sentiment": 1, "review": "so"}\n{"sentiment": 2.0, "review": "x"}'
    )
    source = labelled_texts([a, b])
    assert pairs(source) == [("good", "pos"), ("so", "1"), ("x", "2")]
    assert source.skipped.counts == {"row without text": 1, "row without label": 1}
    assert "text 'review', label 'sentiment'" in source.about


def test_columns_may_be_named(tmp_path):
    file = written(tmp_path / "splice.csv", "n,ACGT\nei,CCGT\n")
    source = labelled_texts([file], text_column="2", label_column="1", header=False)
    assert pairs(source) == [("ACGT", "n"), ("CCGT", "ei")]
    with pytest.raises(DataError, match="'1' cannot be both text and label"):
        labelled_texts([file], text_column="1", label_column="1", header=False)


def test_each_text_file_is_a_label(tmp_path):
    pos = written(tmp_path / "mr.pos", "goöd\n\nfine\x85\r\n", "latin-1")
    neg = written(tmp_path / "mr.neg", "bad\n", "latin-1")
    source = labelled_texts([pos, neg], encoding="latin-1")
    assert pairs(source) == [("goöd", "pos"), ("fine\x85", "pos"), ("bad", "neg")]
    assert source.skipped.counts == {"empty line": 1}
    with pytest.raises(DataError, match=r"mr\.pos: line 1, byte 2 is not UTF-8.*latin-1"):
        labelled_texts([pos, neg])


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (["pos.txt", "neg.txt.gz"], ["pos", "neg"]),
        (["rt-polarity.pos", "rt-polarity.neg"], ["pos", "neg"]),
        (["/data/en/a.txt", "/data/de/a.txt"], ["en", "de"]),
    ],
)
def test_the_label_is_the_shortest_part_of_the_name_that_differs(files, labels):
    assert labels_of_files([Path(file) for file in files]) == labels


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no file is given"),
        (["a.txt"], "one text file holds no labels"),
        (["a.txt", "a.txt"], "tell the files apart"),
        (["a.txt", "a.csv"], r"a\.csv: is a table, and others are none"),
        (["gone.csv"], r"gone\.csv: no such file"),
        (["gone.pos", "gone.neg"], r"gone\.pos: no such file"),
        (["number.jsonl"], "line 1: 'text' must be a text, got 5"),
        (["list.jsonl"], r"line 1: 'label' must be a label or a number, got \['x'\]"),
        (["ragged.jsonl"], "line 2: has no 'label', it has text"),
    ],
)
def test_what_is_wrong_is_said(files, message, tmp_path):
    written(tmp_path / "a.txt", "a\n")
    written(tmp_path / "a.csv", "text,label\na,b\n")
    written(tmp_path / "number.jsonl", '{"text": 5, "label": "x"}')
    written(tmp_path / "list.jsonl", '{"text": "a", "label": ["x"]}')
    written(tmp_path / "ragged.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"}')
    with pytest.raises(DataError, match=message):
        list(labelled_texts([tmp_path / file for file in files]))


def test_columns_are_for_tables(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt: has no columns"):
        labelled_texts([written(tmp_path / "a.txt", "a"), "b.txt"], text_column="x")


def numbers(n):
    return RecordSource("numbers", lambda skipped: iter(range(n)))


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_a_split_is_a_partition_that_is_the_same_each_time(fraction):
    kept, held = split(numbers(5000), fraction, seed=3)
    assert sorted([*kept, *held]) == list(range(5000))
    assert list(held) == list(split(numbers(5000), fraction, seed=3)[1])
    assert abs(len(list(held)) / 5000 - fraction) < 0.03


def test_a_split_does_not_depend_on_what_follows_but_on_the_seed():
    held = list(split(numbers(1000), 0.3, seed=0)[1])
    assert [i for i in split(numbers(2000), 0.3, seed=0)[1] if i < 1000] == held
    other = set(split(numbers(1000), 0.3, seed=1)[1])
    # Independent draws share 0.3 of what each has.
    assert 0.2 < len(other & set(held)) / len(held) < 0.4


def test_both_parts_of_a_split_count_what_is_skipped(tmp_path):
    file = written(tmp_path / "a.csv", "text,label\n" + "a,x\n\n" * 20)
    kept, held = split(labelled_texts([file]), 0.5, seed=0)
    assert len(list(kept)) + len(list(held)) == 20
    assert kept.skipped.counts == held.skipped.counts == {"empty line": 20}


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan")])
def test_a_fraction_lies_between_0_and_1(fraction):
    with pytest.raises(OptionError, match="fraction must lie between 0 and 1"):
        split(numbers(3), fraction, seed=0)


def test_texts_without_labels(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.csv").write_text("text,label\nthree,x\n,y\nfour,\n")
    plain = labelled_texts([tmp_path / "a.txt"], labelled=False)
    assert [(r.text, r.label) for r in plain] == [("one", ""), ("two", "")]
    assert plain.skipped.total == 1
    table = labelled_texts([tmp_path / "b.csv"], labelled=False)
    assert [(r.text, r.label) for r in table] == [("three", ""), ("four", "")]
    assert str(table.skipped).startswith("1 x row without text")
