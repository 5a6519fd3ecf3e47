from pathlib import Path

import pytest

from elman.errors import DataError, RunError
from elman.train.run import new_run, open_run


def made(folder, force=False, mark="1"):
    with new_run(folder, force) as run:
        run.save_config({"mark": mark})
    return run


def test_a_run_is_never_overwritten_unless_forced(tmp_path):
    made(tmp_path / "r")
    with pytest.raises(RunError, match=r"a run is there already.*--resume.*--out.*--force"):
        made(tmp_path / "r", mark="2")
    assert open_run(tmp_path / "r").config["mark"] == "1"
    made(tmp_path / "r", force=True, mark="2")
    assert open_run(tmp_path / "r").config["mark"] == "2"
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_failure_gives_the_former_run_back(tmp_path):
    made(tmp_path / "r")
    with pytest.raises(DataError), new_run(tmp_path / "r", force=True) as run:
        run.save_config({"mark": "2"})
        raise DataError("bad text")
    assert open_run(tmp_path / "r").config["mark"] == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_failure_leaves_no_folder_behind(tmp_path):
    with pytest.raises(DataError), new_run(tmp_path / "new"):
        raise DataError("bad text")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_run_is_never_touched(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "config.json").write_text('{"mine": 1}')
    for force in (False, True):
        with pytest.raises(RunError, match="is no run of elman's"):
            made(tmp_path / "thesis", force)
    assert (tmp_path / "thesis" / "config.json").read_text() == '{"mine": 1}'
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="is no run of elman's"):
        made(tmp_path / "file", force=True)


def test_an_empty_folder_may_become_a_run(tmp_path):
    made(tmp_path)
    assert open_run(tmp_path).config["mark"] == "1"


def test_a_failure_leaves_an_empty_folder_that_was_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError), new_run(Path(".")) as run:
        run.save_config({})
        raise DataError("bad text")
    assert Path.cwd() == tmp_path
    assert not list(tmp_path.iterdir())


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(RunError, match="no such folder"):
        open_run(tmp_path / "x")
    with pytest.raises(RunError, match="no config.json"):
        open_run(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="is no configuration"):
        open_run(tmp_path)


def test_what_a_killed_process_left_is_removed(tmp_path):
    run = made(tmp_path / "r")
    (run.folder / ".model.safetensors.77.part").touch()
    (run.checkpoints / ".step-1.77.part").mkdir(parents=True)
    run.remove_unfinished()
    assert sorted(p.name for p in run.folder.rglob("*")) == ["checkpoints", "config.json"]
