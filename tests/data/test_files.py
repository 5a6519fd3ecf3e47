import errno

import pytest

from elman.data.core.files import read_json, write_json, write_text, written_aside
from elman.errors import RunError


def test_a_file_appears_whole(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "ä")
    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "ä"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]


@pytest.mark.parametrize("failure", [RuntimeError("no"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(failure, tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(type(failure)), written_aside(target) as aside:
        aside.write_text("half")
        raise failure
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_said_and_loses_nothing(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RunError, match=r"no room left.*--resume"), written_aside(target) as aside:
        aside.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "folder"
    for content in ("one", "two"):
        with written_aside(target) as aside:
            aside.mkdir()
            (aside / content).write_text(content)
    assert [p.name for p in target.iterdir()] == ["two"]


def test_json_is_read_back_or_refused(tmp_path):
    write_json(tmp_path / "a.json", {"ä": [1, None]})
    assert read_json(tmp_path / "a.json") == {"ä": [1, None]}
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read as JSON"):
        read_json(tmp_path / "b.json")
    with pytest.raises(RunError, match="no such file"):
        read_json(tmp_path / "c.json")
