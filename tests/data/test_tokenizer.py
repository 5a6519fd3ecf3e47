import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data.text.byte_pairs import BPETokenizer, spread
from elman.data.text.tokenizers import TOKENIZERS, check_vocab_size, load_tokenizer, tokenizer_class
from elman.errors import DataError, OptionError, RunError

TEXT = "The cat sat.\nThe naïve cat — 'tis 42 — sat on the mat…\n\tThe end\n" * 4


def fitted(unit, vocab_size=None):
    return tokenizer_class(unit).fit([TEXT], vocab_size)


@pytest.mark.parametrize("unit", TOKENIZERS)
def test_decoding_gives_the_text_back(unit):
    tokenizer = fitted(unit)
    ids = tokenizer.encode(TEXT)
    assert ids.dtype == np.int64
    assert ids.min() >= 0 and ids.max() < tokenizer.vocab_size
    assert tokenizer.decode(ids.tolist()) == TEXT


@pytest.mark.parametrize("unit", TOKENIZERS)
def test_a_saved_tokenizer_is_the_same(unit, tmp_path):
    tokenizer = fitted(unit)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert again.vocab_size == tokenizer.vocab_size
    assert np.array_equal(again.encode(TEXT), tokenizer.encode(TEXT))


@pytest.mark.parametrize("unit", TOKENIZERS)
def test_the_pieces_of_a_stream_join_to_the_text(unit):
    tokenizer = fitted(unit)
    stream = tokenizer.decoder()
    pieces = [stream.push(int(i)) for i in tokenizer.encode("naïve — 42 sat…")]
    text = "".join(pieces) + stream.end()
    assert text.endswith("sat…") if unit != "word" else "…" in text
    if unit in ("byte", "char", "bpe"):
        assert text == "naïve — 42 sat…"


@pytest.mark.parametrize("unit", ["char", "word"])
def test_rare_units_share_one_id(unit):
    small = fitted(unit, vocab_size=5)
    assert small.vocab_size == 5
    assert (small.encode("Ω" if unit == "char" else " unheard") == 0).all()


def test_frequent_units_come_first():
    tokenizer = tokenizer_class("char").fit(["abbccc"], None)
    assert [tokenizer.symbol(i) for i in range(4)] == ["<unk>", "c", "b", "a"]


@pytest.mark.parametrize("unit", ["char", "word"])
def test_a_prompt_with_unseen_units_names_them(unit):
    with pytest.raises(DataError, match=r"never seen .*Ω.*--tokenizer byte"):
        fitted(unit).require_known("The Ω")


@pytest.mark.parametrize("unit", ["byte", "bpe"])
def test_bytes_and_pairs_can_write_anything(unit):
    tokenizer = fitted(unit)
    assert tokenizer.decode(tokenizer.require_known("Ω ≠ 𝄞").tolist()) == "Ω ≠ 𝄞"


def test_bytes_of_no_text_are_shown_as_replacements():
    assert fitted("byte").decode([104, 105, 255, 104]) == "hi\N{REPLACEMENT CHARACTER}h"


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(OptionError, match="did you mean 'word'"):
        tokenizer_class("words")
    with pytest.raises(OptionError, match="at least 256"):
        check_vocab_size("bpe", 100)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"unit": "char"}', '{"unit": "morse"}'])
def test_a_damaged_file_is_refused(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(RunError, match="tokenizer.json"):
        load_tokenizer(path)


def test_the_file_is_json_that_a_person_can_read(tmp_path):
    fitted("char").save(tmp_path / "t.json")
    value = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert value["unit"] == "char"
    assert " " in value["symbols"]


def test_a_sample_is_spread_over_the_text():
    pieces = [f"{i:03}" for i in range(100)]
    assert spread(pieces, 300) == pieces
    assert spread(pieces, 299) == pieces[::2]
    assert spread(pieces, 100) == pieces[::4]  # 25 of them; 50 are too many
    assert spread(["long" * 9], 5) == ["long" * 9] and spread([], 5) == []


def test_pairs_are_learnt_from_a_sample_of_any_text():
    # The first half says nothing of the second, and a part of it is enough to learn both.
    blocks = ["abab abab\n" * 3000, "cdcd cdcd\n" * 3000]
    tokenizer = BPETokenizer.fit(blocks, 300, most=40_000)
    assert len(tokenizer.encode("abab")) == len(tokenizer.encode("cdcd")) == 1


PAIRS = BPETokenizer.fit([TEXT], 300)
SPACED = st.text(st.sampled_from("ab1.' \n\t\r\x1c\x85\u3000é中😀") | st.characters(codec="utf-8"))


@given(SPACED)
def test_words_alone_have_the_pairs_that_they_have_in_the_text(text):
    found = PAIRS.encode(text).tolist()
    assert found == PAIRS.inner.encode(text).ids
    assert PAIRS.decode(found) == text


def test_what_is_remembered_is_bounded(monkeypatch):
    tokenizer = BPETokenizer.fit([TEXT], 300)
    monkeypatch.setattr(BPETokenizer, "_MOST", 50)
    text = " ".join(map(str, range(200)))
    for begin in range(0, 400, 40):
        part = text[begin : begin + 40]
        assert tokenizer.encode(part).tolist() == tokenizer.inner.encode(part).ids
        assert sum(map(len, tokenizer._known)) <= 90


FOREIGN = {
    "padding": lambda t: t.update(
        padding={
            "strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "a",
        }
    ),
    "truncation": lambda t: t.update(
        truncation={
            "max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right",
        }
    ),
    "pre_tokenizer": lambda t: t.update(pre_tokenizer={"type": "WhitespaceSplit"}),
    "normalizer": lambda t: t.update(normalizer={"type": "Lowercase"}),
    "numbered": lambda t: t["model"].update(
        vocab={unit: 10 * i for unit, i in t["model"]["vocab"].items()}
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
def test_pairs_that_elman_did_not_write_are_refused(what, tmp_path):
    """They would cut, pad or change texts without a word, or take all memory."""
    saved = BPETokenizer.fit(["one two red"], 260).to_json()
    inner = json.loads(saved["tokenizers"])
    FOREIGN[what](inner)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({"unit": "bpe", "tokenizers": json.dumps(inner)}))
    with pytest.raises(RunError, match=what):
        load_tokenizer(file)
