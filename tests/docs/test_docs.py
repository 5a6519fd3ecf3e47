"""Every code block of docs/ and of README.md does what the page says."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from elman.cells import CELLS
from elman.cells.stacked import INITS
from elman.tasks import KINDS
from elman.tasks.base.audio_options import SoundOptions
from elman.tasks.base.inputs import InputOptions
from elman.tasks.base.options import TextOptions
from elman.tasks.lm.task import LanguageModelling
from elman.train.options import ModelOptions
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


#: Where options are described that several tasks have; those of a task alone are on its own page.
SHARED = {
    ModelOptions: "language-model.md",
    InputOptions: "training-options.md",
}


def described(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def page_of(task, field):
    own_of_sounds = {"skip_bad", *SoundOptions.__annotations__}
    if issubclass(task.options_type, SoundOptions) and field in own_of_sounds:
        return "transcribe.md"
    for kind, page in SHARED.items():
        if issubclass(task.options_type, kind) and field in {f.name for f in fields(kind)}:
            return page
    # Tagging and translating read no series of numbers, but share all else.
    shared = {f.name for f in fields(TextOptions)}
    own = {"lm": "language-model.md"}.get(task.name, f"{task.name}.md")
    return "training-options.md" if task.name != "lm" and field in shared else own


@pytest.mark.parametrize("task", KINDS, ids=lambda task: task.name)
def test_every_option_is_described(task):
    pages = {
        f"--{f.name.replace('_', '-')}": page_of(task, f.name) for f in fields(task.options_type)
    }
    assert {o: page for o, page in pages.items() if f"`{o}`" not in described(page)} == {}


def test_every_column_of_metrics_is_described():
    page = described("language-model.md")
    assert [c for c in columns("loss_nats", LanguageModelling.unit) if f"`{c}`" not in page] == []


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
