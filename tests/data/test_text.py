import pytest

from elman.data.text import blocks as text_module
from elman.data.text.blocks import Text
from elman.errors import DataError


def joined(text: Text, *bounds: int) -> str:
    return "".join(text.blocks(*bounds))


def test_several_files_are_read_as_one_text(tmp_path):
    (tmp_path / "a").write_text("one\n", encoding="utf-8")
    (tmp_path / "b").write_text("zwei äöü", encoding="utf-8")
    text = Text([tmp_path / "a", tmp_path / "b"])
    assert joined(text) == "one\nzwei äöü"
    assert text.count() == 12


def test_blocks_lose_nothing_wherever_they_are_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(text_module, "BLOCK_BYTES", 7)
    content = "no space äöü € 𝄞 here\n\nand a veryveryveryveryveryverylongword without end" * 3
    (tmp_path / "a").write_text(content, encoding="utf-8")
    text = Text([tmp_path / "a"])
    assert joined(text) == content
    for start, stop in [(0, 5), (3, 40), (60, None), (17, 18)]:
        assert joined(text, start, stop) == content[start:stop]


def test_blocks_end_before_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(text_module, "BLOCK_BYTES", 16)
    (tmp_path / "a").write_text("the quick brown fox jumps over it", encoding="utf-8")
    blocks = list(Text([tmp_path / "a"]).blocks())
    assert len(blocks) > 1
    assert all(block.startswith(" ") for block in blocks[1:])


def test_bytes_that_are_no_utf8_are_named_by_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(text_module, "BLOCK_BYTES", 4)
    (tmp_path / "a").write_bytes(b"good text \xff more")
    with pytest.raises(DataError, match="byte 10 is not UTF-8.*--tokenizer byte"):
        joined(Text([tmp_path / "a"]))


def test_a_character_cut_off_at_the_end_is_an_error(tmp_path):
    (tmp_path / "a").write_bytes("abc€".encode()[:-1])
    with pytest.raises(DataError, match="byte 3 is not UTF-8"):
        joined(Text([tmp_path / "a"]))


def test_any_bytes_pass_where_strict_is_off(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(256)))
    text = joined(Text([tmp_path / "a"], strict=False))
    assert text.encode("utf-8", "surrogateescape") == bytes(range(256))


def test_what_is_no_text_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Text([tmp_path / "missing"])
    with pytest.raises(DataError, match="is a folder"):
        Text([tmp_path])
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="the file is empty"):
        Text([tmp_path / "empty"])


def test_the_embedded_text_is_long_and_english():
    text = Text()
    assert text.count() > 300_000
    assert "statement" in joined(text, 0, 20_000)
