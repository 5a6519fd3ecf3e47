import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.data.core.records import SkipLog
from elman.data.text.encoder import TextEncoder
from elman.data.text.labels import Labels
from elman.data.text.tokenizers import SENTENCE_TOKENIZERS
from elman.errors import DataError, OptionError, RunError

TEXTS = ["The cat sat.", "the naïve cat — 'tis 42 — sat", "The mat…  the cat"]


def test_labels_are_numbered_by_frequency_then_name():
    labels = Labels.fit(["c", "b", "a", "c", "b"])
    assert labels.names == ("b", "c", "a")
    assert labels.counts == (2, 2, 1)
    assert len(labels) == 3
    assert [labels.id(name, "") for name in "abc"] == [2, 0, 1]
    assert labels.ids(["a", "b"], "").tolist() == [2, 0]
    assert labels.ids([], "").dtype == np.int64


def test_an_unknown_label_is_an_error_or_counted():
    labels = Labels.fit(["positive", "negative"])
    with pytest.raises(DataError, match=r"a\.csv: line 3: unknown label 'postive': did you mean"):
        labels.id("postive", "a.csv: line 3")
    skipped = SkipLog()
    assert labels.id("postive", "a.csv: line 3", skipped) is None
    assert labels.ids(["positive", "x"], "a.csv: line 9", skipped) is None
    assert skipped.counts == {
        "label that the training data do not hold: 'postive'": 1,
        "label that the training data do not hold: 'x'": 1,
    }


def test_many_labels_are_not_all_listed():
    labels = Labels.fit([str(i) for i in range(1000)])
    with pytest.raises(DataError, match=r"\(1000 in all\)") as error:
        labels.id("x", "a")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(("seen", "got"), [([], "none"), (["x", "x"], "only 'x'")])
def test_one_label_is_nothing_to_learn(seen, got):
    with pytest.raises(DataError, match=f"two different labels, got {got}"):
        Labels.fit(seen)


def test_labels_are_saved_in_their_order(tmp_path):
    labels = Labels.fit(["ü", "b", "b", "a"])
    labels.save(tmp_path / "labels.json")
    assert Labels.load(tmp_path / "labels.json") == labels


@pytest.mark.parametrize("kind", [Labels, TextEncoder])
@pytest.mark.parametrize("content", ["", "{}", "[]", '{"labels": [1]}', '{"tokenizer": {}}'])
def test_damaged_files_are_refused(kind, content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(RunError, match=r"a\.json"):
        kind.load(tmp_path / "a.json")


@pytest.mark.parametrize("unit", SENTENCE_TOKENIZERS)
def test_a_sentence_comes_back_without_the_space_around_it(unit):
    sentences = TextEncoder.fit(unit, TEXTS)
    for text in TEXTS:
        ids = sentences.encode(f" {text}\n")
        assert ids.dtype == np.int64 and ids.max() < sentences.vocab_size
        # Between tokens any white space is one space.
        assert sentences.decode(ids) == (" ".join(text.split()) if unit == "token" else text)
    for empty in ("", " \n"):
        assert len(sentences.encode(empty)) == 0


BPE = TextEncoder.fit("bpe", TEXTS)


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_sentence_comes_back(text):
    for unit in ("byte", "char", "word"):
        sentences = TextEncoder.fit(unit, [text], specials=["end"])
        assert sentences.decode(sentences.encode(text, end=True)) == text.strip()
    assert BPE.decode(BPE.encode(text)) == text.strip()


@pytest.mark.parametrize("unit", ["word", "bpe", "token"])
def test_the_first_word_is_the_unit_that_it_is_elsewhere(unit):
    sentences = TextEncoder.fit(unit, TEXTS)
    assert sentences.encode("cat sat").tolist()[: len(sentences.encode("cat"))] == list(
        sentences.encode("cat")
    )
    both = sentences.encode("the cat").tolist()
    assert both == [*sentences.encode("the"), *sentences.encode("cat")]


@pytest.mark.parametrize("unit", SENTENCE_TOKENIZERS)
def test_special_ids_follow_the_tokenizers_own(unit):
    plain = TextEncoder.fit(unit, TEXTS)
    sentences = TextEncoder.fit(unit, TEXTS, specials=["start", "end", "pad"])
    own = sentences.tokenizer.vocab_size
    assert plain.vocab_size == own
    assert sentences.vocab_size == own + 3
    assert [sentences.start_id, sentences.end_id, sentences.pad_id] == [own, own + 1, own + 2]
    ids = sentences.encode("The cat", start=True, end=True)
    assert ids.tolist() == [own, *plain.encode("The cat"), own + 1]
    assert sentences.decode([*ids, *plain.encode("sat"), own + 2]) == "The cat"
    assert sentences.encode("", start=True, end=True).dtype == np.int64
    with pytest.raises(OptionError, match="have no 'end' id"):
        plain.encode("The cat", end=True)


@pytest.mark.parametrize("unit", ["char", "word", "token"])
def test_lower_case_and_saving(unit, tmp_path):
    sentences = TextEncoder.fit(unit, TEXTS, lower_case=True, specials=["end"])
    sentences.save(tmp_path / "a.json")
    again = TextEncoder.load(tmp_path / "a.json")
    assert again.to_json() == sentences.to_json()
    for each in (sentences, again):
        assert each.decode(each.encode("THE CAT", end=True)) == "the cat"
        assert each.end_id == each.vocab_size - 1


@pytest.mark.parametrize("unit", ["word", "token"])
def test_rare_words_are_unknown(unit):
    sentences = TextEncoder.fit(unit, ["a b a c", "a b d"], min_count=2)
    assert sentences.vocab_size == 3
    assert sentences.decode(sentences.encode("a d b")) == "a <unk> b"
    assert sentences.decode(sentences.encode("d a")) == "<unk> a"
    assert TextEncoder.fit(unit, ["a b a c"], vocab_size=2).vocab_size == 2


def test_words_that_are_cut_already_have_one_id_each(tmp_path):
    sentences = TextEncoder.fit_words([["New York", "is"], ["NEW YORK"], ["so"]], lower_case=True)
    ids = sentences.encode_words(["is", "New York", "never"])
    assert ids.tolist()[1:] == [1, 0] and sentences.tokenizer.symbol(1) == "new york"
    assert len(ids) == 3
    sentences.save(tmp_path / "a.json")
    assert TextEncoder.load(tmp_path / "a.json").encode_words(["new york"]).tolist() == [1]
    assert sentences.encode_words([]).dtype == np.int64
    assert TextEncoder.fit_words([["a", "b"], ["a"]], min_count=2).vocab_size == 2
    with pytest.raises(OptionError, match="use the unit 'token'"):
        TextEncoder.fit("word", TEXTS).encode_words(["a"])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(OptionError, match="did you mean 'token'"):
        TextEncoder.fit("tokens", TEXTS)
    with pytest.raises(OptionError, match="min_count is for char, word and token, not for bpe"):
        TextEncoder.fit("bpe", TEXTS, min_count=2)
    with pytest.raises(OptionError, match="unknown special id 'begin'"):
        TextEncoder.fit("char", TEXTS, specials=["begin"])
