"""docs/architecture.md: the files are there, and a call passes through what it lists."""

import inspect
import re
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import torch

import elman
from elman.tasks import KINDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
#: number, file, function; the pass from a step to a plan names files alone.
ROWS = re.findall(r"^\| \d+ \| `([\w/]+\.py)` \|(?: `([\w.]+)` \|)?", PAGE, re.MULTILINE)


def table_under(heading: str) -> list[tuple[str, str]]:
    text = PAGE.partition(heading)[2].partition("\n\n|")[2].partition("\n\n")[0]
    return re.findall(r"^\| \d+ \| `([\w/]+\.py)` \| `([\w.]+)`", "|" + text, re.MULTILINE)


@pytest.mark.parametrize(("file", "function"), ROWS)
def test_what_the_page_names_is_there(file, function):
    path = ROOT / "elman" / file
    assert path.exists()
    if function:
        found = import_module("elman." + file.removesuffix(".py").replace("/", "."))
        for name in function.split("."):
            found = inspect.getattr_static(found, name)


def test_folders_of_the_page_are_there():
    tree = PAGE.partition("```text\n")[2].partition("```")[0]
    rooms = re.findall(r"^  (\w+)/ ", tree, re.MULTILINE)
    assert len(rooms) > 10
    there = {path.name for path in (ROOT / "elman").iterdir() if (path / "__init__.py").exists()}
    assert set(rooms) == there


@pytest.mark.parametrize("way", ["## A call, from a layer to a kernel", "Backward:"])
def test_a_call_passes_through_the_functions_of_the_page_in_order(way):
    expected = [(file, name.split(".")[-1]) for file, name in table_under(way)]
    assert len(expected) >= 6
    layer, x = elman.LSTM(8, 8), torch.randn(3, 2, 8, requires_grad=True)
    layer(x)[0].sum().backward()  # compiled
    passed = []

    def seen(frame, event, _):
        file = frame.f_code.co_filename
        if event == "call" and "/elman/" in file:
            passed.append((file.rpartition("/elman/")[2], frame.f_code.co_name))

    def watched(act):
        sys.setprofile(seen)
        try:
            return act()
        finally:
            sys.setprofile(None)

    with torch.autograd.set_multithreading_enabled(False):
        if way == "Backward:":
            loss = layer(x)[0].sum()
            watched(loss.backward)
        else:
            watched(lambda: layer(x))
    rest = iter(passed)
    assert [step for step in expected if step not in rest] == []


def test_import_contracts_name_every_task():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    folders = {".".join(kind.__module__.split(".")[:3]) for kind in KINDS}
    lists = [
        set(contract[key])
        for contract in contracts["contracts"]
        for key in ("modules", "containers", "forbidden_modules")
        if key in contract
    ]
    assert len(lists) == 3 and all(names == folders for names in lists)
