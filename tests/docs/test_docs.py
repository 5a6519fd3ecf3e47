"""Every code block of docs/ and of README.md does what the page says."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from elman.cells import CELLS
from elman.cells.stacked import INITS
from elman.tasks.language_model import LanguageModelling, LanguageModelOptions
from elman.train.watch import columns
from tests.docs.pages import run_page

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, empty."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(page, folder):
    run_page(page, folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_option_and_column_is_described():
    page = (ROOT / "docs" / "language-model.md").read_text(encoding="utf-8")
    options = [f"`--{f.name.replace('_', '-')}`" for f in fields(LanguageModelOptions)]
    assert [
        name
        for name in [*options, *(f"`{c}`" for c in columns(LanguageModelling))]
        if name not in page
    ] == []


def test_every_cell_and_initialisation_is_described():
    page = (ROOT / "docs" / "cells.md").read_text(encoding="utf-8")
    rows = [f"| `{name}` | `{cell.__name__}` |" for name, cell in CELLS.items()]
    assert [row for row in [*rows, *(f'`"{init}"`' for init in INITS)] if row not in page] == []


@pytest.mark.parametrize(
    "block",
    [
        "```python\nassert 1 == 2\n```",
        "```python\n>>> 1 + 1\n3\n```",
        "```console\n$ elman eval nowhere no.txt\n```",
        "```console\n$ elman --version\nelman 0.0.0\n```",
        "```console\n$ ls\n```",
        "```console\nelman --version\n```",
    ],
)
def test_a_wrong_example_fails(block, folder):
    page = folder / "page.md"
    page.write_text(f"# A page\n\n{block}\n")
    with pytest.raises(AssertionError):
        run_page(page, folder)


def test_a_page_is_one_namespace_in_one_folder(folder):
    page = folder / "page.md"
    page.write_text(
        "```python\n# two.py\nx = 2\n```\n\n"
        "```console\n$ elman --version\nelman ...\n```\n\n"
        "```python\nfrom pathlib import Path\n\n"
        "assert x == 2 and 'x = 2' in Path('two.py').read_text()\n```\n"
    )
    assert run_page(page, folder) == 3
