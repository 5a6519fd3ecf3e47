"""Random programs on every backend, against the literal loop.

fuzz(seed=0, programs=2000)    run them, each in a process that may crash
program(seed, number)          one of them, which is data
check(program)                 run it here; raises CheckError where it is not as the loop
script(program)                a Python script that shows it again, as short as it can be
"""

from elman.errors import CheckError
from elman.testing.fuzz.cells import Drawn, Line
from elman.testing.fuzz.compare import Judged, Verdict, judge
from elman.testing.fuzz.layers import Both, Deep, Lifted, Torch, Zoo
from elman.testing.fuzz.programs import Act, Program
from elman.testing.fuzz.run import Failure, Report, fuzz, program
from elman.testing.fuzz.shrink import shrink

__all__ = [
    "Act", "Both", "Deep", "Drawn", "Failure", "Judged", "Lifted", "Line", "Program", "Report",
    "Torch", "Verdict", "Zoo", "check", "fuzz", "judge", "program", "script", "shrink",
]  # fmt: skip


def check(program: Program) -> Judged:
    """Run a program on its backend and on the loop.

    Raises CheckError with its listing where something is not as the loop says.
    """
    judged = judge(program)
    if judged.verdict is Verdict.WRONG:
        raise CheckError(f"{judged.text}\n\n{program.listing()}")
    return judged


def script(program: Program, seconds: float = 60) -> str:
    """A script that shows a failure again, shrunk for at most so many seconds."""
    program = shrink(program, seconds=seconds)
    lines = [f"# {line}".rstrip() for line in (judge(program).text, "", *_listed(program))]
    names = "Act, Both, Deep, Drawn, Lifted, Line, Program, Torch, Zoo, check"
    return "\n".join([*lines, f"from elman.testing.fuzz import {names}", "", f"check({program!r})"])


def _listed(program: Program) -> list[str]:
    return program.listing().splitlines()
