"""Which sounds there are, and what is said of each, in every layout."""

import pytest

from elman.data.audio.sound_files import are_sounds, labelled_sounds, transcribed_sounds
from elman.errors import DataError
from tests.data.sounds import write_sounds

TEXTS = ["ab", "c"]


def read(*files, **options):
    source = transcribed_sounds(files, **options)
    found = list(source)
    assert all(sound.source.is_file() for sound in found)
    return [(sound.source.name, sound.text) for sound in found], str(source.skipped)


@pytest.mark.parametrize(
    ("name", "head", "mark"), [("a.csv", "file,text", ","), ("a.tsv", "audio\ttranscript", "\t")]
)
def test_a_table_of_files_and_transcripts(tmp_path, name, head, mark):
    names = write_sounds(tmp_path, TEXTS)
    rows = [f"{n}{mark}{t}" for n, t in zip(names, TEXTS, strict=True)]
    (tmp_path / name).write_text("\n".join([head, *rows, f"{mark}lost", f"{names[0]}{mark}"]))
    found, skipped = read(tmp_path / name)
    assert found == list(zip(names, TEXTS, strict=True))
    assert "1 x row without file" in skipped and "1 x sound without transcript" in skipped
    assert read(tmp_path)[0] == found  # its folder


def test_json_lines_and_columns_by_name(tmp_path):
    write_sounds(tmp_path, TEXTS)
    (tmp_path / "a.jsonl").write_text('{"where": "s000.wav", "said": "ab"}\n')
    found, _ = read(tmp_path / "a.jsonl", file_column="where", text_column="said")
    assert found == [("s000.wav", "ab")]
    with pytest.raises(DataError, match="which column is the file"):
        read(tmp_path / "a.jsonl")


def test_ljspeech(tmp_path):
    write_sounds(tmp_path / "wavs", TEXTS)
    lines = ['s000|"Ab," he said|ab he said', "s001|c"]
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n\n")
    found, skipped = read(tmp_path)
    assert found == [("s000.wav", "ab he said"), ("s001.wav", "c")]
    assert "empty line" in skipped


def test_common_voice(tmp_path):
    write_sounds(tmp_path / "clips", TEXTS, suffix=".mp3")
    rows = "x\ts000.mp3\tAb.\t2\ny\ts001.mp3\tC.\t0\n"
    (tmp_path / "train.tsv").write_text("client_id\tpath\tsentence\tup_votes\n" + rows)
    assert read(tmp_path / "train.tsv")[0] == [("s000.mp3", "Ab."), ("s001.mp3", "C.")]
    (tmp_path / "dev.tsv").write_text("path\tsentence\n")
    with pytest.raises(DataError, match=r"which of its tables.*dev.tsv, train.tsv"):
        read(tmp_path)


def test_librispeech(tmp_path):
    folder = tmp_path / "84" / "121"
    write_sounds(folder, TEXTS, suffix=".flac")
    (folder / "84-121.trans.txt").write_text("s000 AB AND SO ON\ns001 C\n")
    assert read(tmp_path)[0] == [("s000.flac", "AB AND SO ON"), ("s001.flac", "C")]


def test_a_text_beside_each_sound(tmp_path):
    write_sounds(tmp_path, TEXTS)
    (tmp_path / "s000.txt").write_text("ab\n")
    with pytest.raises(DataError, match=r"s001.wav: what is spoken in it\? .*s001.txt"):
        read(tmp_path)
    (tmp_path / "s001.txt").write_text("c\nagain\n")
    assert read(tmp_path)[0] == [("s000.wav", "ab"), ("s001.wav", "c again")]


def test_a_missing_sound_names_its_line(tmp_path):
    (tmp_path / "a.csv").write_text("file,text\nno.wav,ab\n")
    with pytest.raises(DataError, match=r"a.csv: line 2: there is no sound .*no.wav.*--skip-bad"):
        read(tmp_path / "a.csv")
    assert read(tmp_path / "a.csv", skip_bad=True) == (
        [],
        f"1 x sound that is missing (first: {tmp_path / 'a.csv'}: line 2)",
    )


def test_a_folder_without_sounds(tmp_path):
    with pytest.raises(DataError, match=r"neither \*.trans.txt nor a table"):
        read(tmp_path)


def test_labels_are_folders_or_a_column(tmp_path):
    names = write_sounds(tmp_path / "all" / "yes", TEXTS)
    write_sounds(tmp_path / "all" / "no", TEXTS)
    found = list(labelled_sounds([tmp_path / "all"]))
    assert [sound.label for sound in found] == ["no", "no", "yes", "yes"]
    several = [tmp_path / "all" / "yes", tmp_path / "all" / "no"]
    assert [sound.label for sound in labelled_sounds(several)] == ["yes", "yes", "no", "no"]
    with pytest.raises(DataError, match="no two folders of sounds"):
        list(labelled_sounds([tmp_path / "all" / "yes"]))
    table = tmp_path / "all" / "yes" / "t.csv"
    table.write_text(f"file,label\n{names[0]},up\n{names[1]},\n")
    source = labelled_sounds([table])
    assert [sound.label for sound in source] == ["up"]
    assert "1 x sound without label" in str(source.skipped)
    bare = labelled_sounds([tmp_path / "all" / "no"], labelled=False)
    assert [sound.label for sound in bare] == ["", ""]


def test_what_holds_sounds(tmp_path):
    write_sounds(tmp_path / "a", TEXTS)
    for name, rows in (("s.csv", "file,label\na/s000.wav,x\n"), ("t.csv", "file,label\na.py,x\n")):
        (tmp_path / name).write_text(rows)
    assert are_sounds([tmp_path]) and are_sounds([tmp_path / "s.csv"])
    assert are_sounds([tmp_path / "a" / "s000.wav"])
    assert not are_sounds([tmp_path / "t.csv"]) and not are_sounds([tmp_path / "no.txt"])
