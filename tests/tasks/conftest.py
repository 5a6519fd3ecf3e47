import io
import sys
from types import SimpleNamespace

import pytest

from elman.cli.main import main
from tests.cli.conftest import elman  # noqa: F401


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder for all tests of a file, and a function that trains a run in it."""
    folder = tmp_path_factory.mktemp("shared")

    def train(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["elman", "train", *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                main()
        assert not end.value.code

    return folder, train


@pytest.fixture
def pipe(monkeypatch):
    """A function that puts bytes, or text, into standard input."""

    def put(given):
        data = given.encode() if isinstance(given, str) else given
        stdin = SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False)
        monkeypatch.setattr("elman.cli.predict.sys.stdin", stdin)

    return put
