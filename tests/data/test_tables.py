import csv
import gzip
import json
import re
import tempfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.data.core import lines
from elman.data.core.records import SkipLog
from elman.data.tables.table import Table, read_rows
from elman.errors import DataError, OptionError


def values(file, **options):
    return [row.values for row in read_rows(file, **options)]


def written(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    return path


ROWS = [
    {"text": 'a "quoted", and\nbroken € text', "label": "x"},
    {"text": " spaces ", "label": ""},
    {"text": "𝄞", "label": "y;z"},
]


def test_every_kind_of_table_gives_the_same_rows(tmp_path):
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, ["text", "label"])
        writer.writeheader()
        writer.writerows(ROWS)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    written(tmp_path / "a.jsonl", lines)
    with gzip.open(tmp_path / "b.json.gz", "wb") as packed:
        packed.write(lines.encode())
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for file in ("a.csv", "a.jsonl", "b.json.gz", "b.csv.gz", "a.parquet"):
        assert values(tmp_path / file) == ROWS, file


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(min_size=1)), min_size=1))
def test_any_text_comes_back_from_csv(rows):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.csv"
        with file.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([("text", "label"), *rows])
        found = [tuple(row.values()) for row in values(file)]
    # The ends of lines become LF wherever they stand.
    wanted = [tuple(re.sub("\r\n?", "\n", cell) for cell in row) for row in rows]
    assert found == wanted


def test_in_tsv_a_quote_is_a_character(tmp_path):
    file = written(tmp_path / "a.tsv", 'text\tlabel\n5" of "rain\tx\n')
    assert values(file) == [{"text": '5" of "rain', "label": "x"}]


def test_line_ends_may_be_mixed_and_a_mark_of_order_is_no_character(tmp_path):
    file = written(tmp_path / "a.csv", "\ufefftext,label\r\na,x\nb\x85\u2028,y\rc,z")
    rows = list(read_rows(file))
    assert [row.values["text"] for row in rows] == ["a", "b\x85\u2028", "c"]
    assert [row.where[-6:] for row in rows] == ["line 2", "line 3", "line 4"]


def test_empty_lines_are_skipped_and_counted_and_lines_still_named_right(tmp_path):
    file = written(tmp_path / "a.csv", 'text,label\n\na,x\n   \n"b\nb",y\nc,z\n')
    source = read_rows(file)
    rows = list(source)
    assert [row.where.split(": ")[1] for row in rows] == ["line 3", "line 5", "line 7"]
    assert source.skipped.counts == {"empty line": 2}
    assert str(source.skipped) == f"2 x empty line (first: {file}: line 2)"
    assert len(list(source)) == 3 and source.skipped.total == 2


def test_a_table_without_a_header_numbers_its_columns(tmp_path):
    file = written(tmp_path / "a.csv", "n,ACGT\nei,CC\n")
    assert values(file, header=False) == [{"1": "n", "2": "ACGT"}, {"1": "ei", "2": "CC"}]


def test_another_delimiter_and_another_encoding(tmp_path):
    file = written(tmp_path / "a.csv", "text;label\nnaïve, so;x\n", "latin-1")
    assert values(file, delimiter=";", encoding="latin-1") == [{"text": "naïve, so", "label": "x"}]
    wide = written(tmp_path / "b.csv", "text,label\nnaïve,x\n", "utf-16")
    assert values(wide, encoding="utf-16") == [{"text": "naïve", "label": "x"}]


def test_a_huge_field_is_read(tmp_path):
    file = written(tmp_path / "a.csv", f"text,label\n{'x' * 1_000_000},y\n")
    assert len(values(file)[0]["text"]) == 1_000_000


def test_rows_are_read_as_they_are_asked_for(tmp_path):
    file = written(tmp_path / "a.csv", "text,label\n" + f"{'word ' * 100},x\n" * 40_000)
    tracemalloc.start()
    assert sum(1 for _ in read_rows(file)) == 40_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < file.stat().st_size / 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,label\nok,x\n\xff\xfe,x\n", r"line 3, byte 16 is not UTF-8.*--encoding latin-1"),
        ("text,label\na,x\n".encode("utf-16"), r"line 1, byte 0 is not .*--encoding utf-16"),
        (b"text,label\r\n\r\ncaf\xe9,x\n", r"line 3, byte 17 is not UTF-8"),
        (b"text,label\r\rcaf\xe9,x\n", r"line 3, byte 15 is not UTF-8"),
        (b"text,label\na,b,c\n", r"line 2: has 3 columns, but the first line has 2; .*quote"),
        (b"text,label\na\n", r"line 2: has 1 columns, but the first line has 2"),
        (b'text,label\na,x\n"b,y\nc,z\n', r"line 3: is no row of CSV .*written twice"),
        (b'text,label\n"a" b,x\n', r"line 2: is no row of CSV"),
        (b"a,a\n1,2\n", r"two columns are named 'a'.*--no-header"),
        (b"\n\n", r"holds no rows"),
        (b"", r"the file is empty"),
    ],
)
def test_what_is_wrong_with_csv_is_said(content, message, tmp_path):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.csv: {message}"):
        values(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n{"a": \n', "line 2: is no JSON"),
        ('[{"a": 1}]', "line 1: must be a JSON object.*one object a line"),
        ("[\n{}\n]", r"line 1: a JSON object must stand on one line"),
        ('{\n"a": 1\n}', r"line 1: a JSON object must stand on one line"),
        ('{"a": "\\ud83d"}', "line 1: holds half a character"),
        ("[" * 100_000, "line 1: is no JSON"),
        ("\n \n", "holds no rows"),
    ],
)
def test_what_is_wrong_with_json_lines_is_said(content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        values(written(tmp_path / "a.jsonl", content))


def test_a_whole_surrogate_pair_is_a_character(tmp_path):
    assert values(written(tmp_path / "a.jsonl", '{"a": "\\ud834\\udd1e"}')) == [{"a": "𝄞"}]


@pytest.mark.parametrize("place", [3, 20, -9, -1])
def test_a_damaged_gzip_file_is_refused(place, tmp_path):
    packed = gzip.compress(b"text,label\n" + b"a,x\n" * 100)
    (tmp_path / "a.csv.gz").write_bytes(packed[:place])
    with pytest.raises(DataError, match=r"a\.csv\.gz: is no whole gzip file"):
        values(tmp_path / "a.csv.gz")


def test_a_damaged_parquet_file_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no parquet PAR1")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as parquet"):
        values(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["a.xlsx", "a.txt", "a.parquet.gz", "a"])
def test_what_is_no_table_is_refused(name, tmp_path):
    with pytest.raises(DataError, match=r"a table is \.csv, \.tsv"):
        read_rows(written(tmp_path / name, "x"))


def test_unknown_encodings_and_delimiters_are_refused(tmp_path):
    file = written(tmp_path / "a.csv", "a,b\n")
    for encoding in ("utf-9", "hex"):
        with pytest.raises(OptionError, match=f"unknown encoding '{encoding}'"):
            read_rows(file, encoding=encoding)
    with pytest.raises(OptionError, match="delimiter must be one character"):
        read_rows(file, delimiter="::")


def test_columns_are_required_by_name_with_the_nearest(tmp_path):
    table = Table(written(tmp_path / "a.csv", "id,comment,stars\n1,a,2\n"))
    table.require(["stars", "id"])
    with pytest.raises(DataError, match=r"a\.csv: unknown column 'coment': did you mean 'comment'"):
        table.require(["id", "coment"])


def test_columns_are_found_by_their_usual_names_in_the_order_of_these(tmp_path):
    table = Table(written(tmp_path / "a.csv", "Content,Text,x\na,b,c\n"))
    assert table.find("text", ("text", "content")) == "Text"
    assert table.find("text", ("text", "content"), "x") == "x"
    with pytest.raises(DataError, match="which column is the label.*Content, Text, x.*--no-header"):
        table.find("label", ("label",))


def test_a_wrong_delimiter_is_suspected(tmp_path):
    table = Table(written(tmp_path / "a.csv", "text;label\na;x\n"))
    with pytest.raises(DataError, match="--delimiter ';'"):
        table.find("text", ("text",))


def test_the_account_of_what_was_skipped():
    skipped = SkipLog()
    assert not skipped.total and str(skipped) == ""
    skipped.add("empty line", "a: line 3")
    skipped.add("empty line", "a: line 9", 4)
    assert skipped.total == 5
    assert skipped.first == {"empty line": "a: line 3"}


def test_a_line_without_an_end_is_refused(tmp_path, monkeypatch):
    """A small packed file may hold one that fills the memory."""
    monkeypatch.setattr(lines, "LONGEST", 1000)
    file = tmp_path / "a.csv.gz"
    file.write_bytes(gzip.compress(b"text,label\n" + b"x" * 3000))
    with pytest.raises(DataError, match="line 2: is longer than 1,000 characters"):
        list(Table(file).values(SkipLog()))
