"""Every code block of docs/ and of README.md does what the page says."""

import re
from pathlib import Path

import pytest
import torch

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
