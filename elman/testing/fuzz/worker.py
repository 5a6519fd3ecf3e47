"""The process that runs programs: ``python -m elman.testing.fuzz.worker SEED FIRST END FOLDER``.

What it finds goes line by line into FOLDER/found, the program that runs now into FOLDER/now.
"""

from __future__ import annotations

import faulthandler
import json
import os
import struct
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from elman.testing.fuzz.compare import Verdict, judge
from elman.testing.fuzz.run import BATCH, PATIENCE, program

#: How often the numbers are told.
EVERY = 50


def work(seed: int, first: int, end: int, folder: Path) -> None:
    """Run programs ``first`` to ``end``."""
    faulthandler.enable()
    now = os.open(folder / "now", os.O_WRONLY)
    with (folder / "found").open("a", encoding="utf-8") as found:

        def tell(told: dict[str, Any]) -> None:
            found.write(json.dumps(told) + "\n")
            found.flush()

        tally = _Tally()
        for number in range(first, end):
            os.pwrite(now, struct.pack("<q", number), 0)
            faulthandler.dump_traceback_later(0.9 * PATIENCE)
            torch.set_num_threads(2 if number // BATCH % 8 == 7 else 1)
            text = tally.add(seed, number)
            if text:
                tell({"number": number, "text": text})
            if number % EVERY == 0 or number + 1 == end:
                tell(tally.told())
                tally = _Tally()


class _Tally:
    def __init__(self) -> None:
        self.programs = self.compared = 0
        self.verdicts: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()

    def add(self, seed: int, number: int) -> str:
        """Run one program: what is wrong with it, "" where nothing is."""
        self.programs += 1
        try:
            judged = judge(program(seed, number))
        except Exception:  # the fuzzer's own
            self.verdicts[Verdict.WRONG.value] += 1
            return "the fuzzer failed: " + traceback.format_exc()[-800:]
        self.compared += judged.compared
        self.verdicts[judged.verdict.value] += 1
        if judged.verdict is Verdict.REFUSED:
            self.refusals[judged.text] += 1
        return judged.text if judged.verdict is Verdict.WRONG else ""

    def told(self) -> dict[str, Any]:
        return vars(self)


if __name__ == "__main__":
    seed, first, end = map(int, sys.argv[1:4])
    work(seed, first, end, Path(sys.argv[4]))
