"""How the examples of a Markdown page are run.

A page runs from top to bottom in a folder of its own, in one namespace. ```python blocks are
executed, or checked as a doctest where they hold >>>; one whose first line is a comment with a
file name, as ``# my_cell.py``, is also saved under that name. In ```console blocks every line
"$ elman ..." is a command that must end well, and the lines after it, where there are any, must
stand at the beginning of what it prints ("..." stands for anything). Nothing else is run.
"""

import doctest
import re
import shlex
from pathlib import Path

from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from tests.docs.commands import run

NAMED_BLOCK = re.compile(r"^```python\n(# (\w+\.py)\n.*?)^```$", re.MULTILINE | re.DOTALL)


def run_page(page: Path, folder: Path) -> int:
    """Run every example of a page, and return how many there were; ``folder`` is the current
    one. What an example raises is raised."""
    for source, name in NAMED_BLOCK.findall(page.read_text(encoding="utf-8")):
        (folder / name).write_text(source, encoding="utf-8")
    examples = list(SYBIL.parse(page).examples())
    for example in examples:
        example.evaluate()
    return len(examples)


def commands(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output shown below it."""
    found: list[tuple[str, str]] = []
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), ""))
        else:
            assert found, f"a console block begins with '$ elman ...', not with '{line}'"
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


def run_block(example) -> None:
    """Run a console block; AssertionError where a command fails or prints something else."""
    for command, shown in commands(example.parsed):
        name, *arguments = shlex.split(command)
        assert name == "elman", f"only elman is run in a console block, not '{command}'"
        done = run(arguments)
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        assert begins(done.stdout, shown), f"$ {command}\nshown:\n{shown}\ngot:\n{done.stdout}"


def begins(printed: str, shown: str) -> bool:
    """Whether ``printed`` begins with the words of ``shown``, where "..." stands for anything."""
    words = [re.escape(word).replace(r"\.\.\.", ".*?") for word in shown.split()]
    pattern = r"\s*" + r"\s+".join(words) + r"(?!\S)"
    return not words or bool(re.match(pattern, printed, re.DOTALL))


SYBIL = Sybil(
    [
        PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS),
        CodeBlockParser("console", run_block),
    ]
)
