import pytest

from elman.data.text.pairs import text_pairs
from elman.data.text.tagged import parallel_files, tagged_sentences
from elman.errors import DataError, OptionError


def written(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode())
    return path


def sentences(tmp_path, content, **options):
    source = tagged_sentences([written(tmp_path / "a.conll", content)], **options)
    return [(record.words, record.tags) for record in source], source.skipped.counts


CASES = {
    "two columns": ("a X\nb Y\n\nc Z\n", [("ab", "XY"), ("c", "Z")], {}),
    "no end of line": ("a X\n\n\n\nb Y", [("a", "X"), ("b", "Y")], {}),
    "mixed line ends": ("a X\r\n\r\nb Y\n \nc Z\r", [("a", "X"), ("b", "Y"), ("c", "Z")], {}),
    "CoNLL 2003": (
        "-DOCSTART- -X- -X- O\n\na NN I-NP X\nb NN I-NP Y\n\n-DOCSTART- -X- -X- O\nc N I Z\n",
        [("ab", "XY"), ("c", "Z")],
        {"-DOCSTART- line": 2},
    ),
    "protein": (
        "# of 1988\n\n<>\na X\nb Y\n<end>\n<>\nc Z\nend\n<>\nd X\n",
        [("ab", "XY"), ("c", "Z"), ("d", "X")],
        {"comment": 1},
    ),
    "tabs": ("# sent_id = 1\n#\tX\nb\tY\n\n#c\tZ\n", None, {"comment": 1}),
    "hash words": ("#tag X\n# Y\n\n# text\n#b Y\n", None, {"comment": 1}),
    "a comment amid": ("a X\n#note\nb Y\n", [("ab", "XY")], {"comment": 1}),
}
SPLIT = {
    "tabs": [(["#", "b"], ["X", "Y"]), (["#c"], ["Z"])],
    "hash words": [(["#tag", "#"], ["X", "Y"]), (["#b"], ["Y"])],
}


@pytest.mark.parametrize("case", CASES)
def test_columns_are_cut_into_sentences(case, tmp_path):
    content, wanted, counts = CASES[case]
    found, skipped = sentences(tmp_path, content)
    assert found == SPLIT.get(case, [(list(w), list(t)) for w, t in wanted or []])
    assert skipped == counts


def test_columns_and_separators_may_be_chosen(tmp_path):
    content = "1\tNew York\tPROPN\tB\n2\tis\tAUX\tO\n***\n1\tso\tADV\tO\n"
    found, _ = sentences(tmp_path, content, word_column=2, tag_column=3, separators=["***"])
    assert found == [(["New York", "is"], ["PROPN", "AUX"]), (["so"], ["ADV"])]


def test_a_sentence_is_named_by_its_first_line(tmp_path):
    file = written(tmp_path / "a.conll", "# c\na X\nb Y\n\nc Z\n")
    assert [s.where[-6:] for s in tagged_sentences([file])] == ["line 2", "line 5"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a X\nb\nc Z\n", {}, "line 2: has 1 columns, the lines before have 2"),
        ("a\nb\n", {}, "line 1: has no tag in column 2"),
        ("a X\n", {"word_column": 3}, "line 1: has no word in column 3.*--word-column"),
        ("a\t\nb\t\n", {}, "line 1: has no tag in column 2"),
    ],
)
def test_what_is_wrong_with_columns_is_said(content, options, message, tmp_path):
    with pytest.raises(DataError, match=rf"a\.conll: {message}"):
        sentences(tmp_path, content, **options)
    with pytest.raises(OptionError, match="word_column must be a whole number"):
        sentences(tmp_path, content, word_column=0)


def folder(tmp_path, words="a b\n\nc\n", tags="X Y \n\nZ\n", label="p\n\nq\n"):
    for name, content in (("seq.in", words), ("seq.out", tags), ("label", label)):
        if content is not None:
            written(tmp_path / "d" / name, content)
    return tmp_path / "d"


def test_a_folder_holds_words_tags_and_labels(tmp_path):
    source = tagged_sentences([folder(tmp_path)])
    found = [(record.words, record.tags, record.label) for record in source]
    assert found == [(["a", "b"], ["X", "Y"], "p"), (["c"], ["Z"], "q")]
    assert source.skipped.counts == {"empty line": 1}


def test_labels_may_be_missing(tmp_path):
    here = folder(tmp_path, label=None)
    for source in (tagged_sentences([here]), parallel_files(here / "seq.in", here / "seq.out")):
        assert [(record.words, record.label) for record in source] == [
            (["a", "b"], None),
            (["c"], None),
        ]
    source = tagged_sentences([folder(tmp_path, label="\n\nq\n")])
    assert [record.label for record in source] == ["q"]
    assert source.skipped.counts == {"sentence without label": 1, "empty line": 1}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"tags": "X Y\n\nZ W\n"}, r"line 3: 1 words, but 2 tags in seq\.out"),
        ({"tags": "X Y\nZ\n\n"}, r"line 2: 0 words, but 1 tags in seq\.out"),
        ({"tags": "X Y\n\n"}, r"line 3: .*they have: seq\.in 3, seq\.out 2, label 3"),
        ({"label": "p\n\nq\nr\n"}, r"line 4: .*they have: seq\.in 3, seq\.out 3, label 4"),
    ],
)
def test_files_that_are_not_parallel_are_refused_where_they_part(parts, message, tmp_path):
    with pytest.raises(DataError, match=rf"seq\.in: {message}"):
        list(tagged_sentences([folder(tmp_path, **parts)]))


def test_a_folder_without_these_files_is_refused(tmp_path):
    written(tmp_path / "d" / "words.txt", "a")
    with pytest.raises(DataError, match=r"holds seq\.in and seq\.out .*this one holds words\.txt"):
        tagged_sentences([tmp_path / "d"])


def pairs(*files, **options):
    source = text_pairs(files, **options)
    return [(pair.source, pair.target) for pair in source], source.skipped.counts


def test_pairs_of_two_files_and_of_tables_are_the_same(tmp_path):
    de = written(tmp_path / "a.de", "ein\n\nzwei\n\nvier\n")
    en = written(tmp_path / "a.en", "one\n\ntwo\r\nthree\nfour \n")
    wanted = [("ein", "one"), ("zwei", "two"), ("vier", "four ")]
    assert pairs(de, en) == (wanted, {"empty line": 1, "empty source": 1})
    tsv = written(tmp_path / "a.tsv", "ein\tone\tx\nzwei\ttwo\tx\nvier\tfour \tx\nfünf\t\tx\n")
    assert pairs(tsv, header=False) == (wanted, {"empty target": 1})
    lines = "".join(f'{{"en": "{e}", "de": "{d}"}}\n' for d, e in wanted)
    jsonl = written(tmp_path / "a.jsonl", lines)
    assert pairs(jsonl, source_column="de", target_column="en") == (wanted, {})
    usual = written(tmp_path / "b.csv", "id,Target,source\n1,one,ein\n")
    assert pairs(usual)[0] == [("ein", "one")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.de", "b.en"], r"a\.de: line 2: .*they have: a\.de 2, b\.en 1"),
        (["a.de"], "two text files, source and target, or from one table"),
        ([], "got no file"),
        (["a.jsonl"], "which column is the source"),
        (["one.csv"], "which column is the target"),
        (["a.de", "gone"], "gone: no such file"),
    ],
)
def test_what_is_wrong_with_pairs_is_said(files, message, tmp_path):
    written(tmp_path / "a.de", "a\nb\n")
    written(tmp_path / "b.en", "a\n")
    written(tmp_path / "a.jsonl", '{"en": "a", "de": "b"}')
    written(tmp_path / "one.csv", "source\na\n")
    with pytest.raises(DataError, match=message):
        pairs(*[tmp_path / file for file in files])
