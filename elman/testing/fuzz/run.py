"""Many programs, by number, in processes of their own: what crashes one is found as well."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random

from elman.testing.fuzz.layers import Spec, random_layer
from elman.testing.fuzz.programs import Program, random_program

#: So many programs share a pool of layers, whose cells are compiled once.
BATCH = 2500
#: Layers of a pool whose cells may jump, and of those that may not: float32 takes these.
ANY, SMOOTH = 14, 4
#: One process runs at most so many programs: what it has compiled goes with it.
CHUNK = 5000
#: Threads that wait do not spin: the sizes are small, and other processes want the cores.
_ENVIRONMENT = {"ELMAN_BACKEND": "", "OMP_WAIT_POLICY": "passive"}
#: A program that takes so many seconds hangs.
PATIENCE = 600.0


@lru_cache(maxsize=2 * (ANY + SMOOTH))
def _layer(seed: int, batch: int, number: int) -> tuple[Spec, str]:
    """A layer of a batch's pool, and what runs it."""
    draw = Random(f"{seed} batch {batch} layer {number}")
    spec = random_layer(draw, smooth=number >= ANY)
    return spec, draw.choice(("auto", "auto", "llvm", "eager", "eager"))


def program(seed: int, number: int) -> Program:
    """The program of this number: the same one always."""
    draw = Random(f"{seed} program {number}")
    dtype = "float32" if draw.random() < 0.12 else "float64"
    layer = draw.randrange(ANY if dtype == "float32" else 0, ANY + SMOOTH)
    spec, backend = _layer(seed, number // BATCH, layer)
    return random_program(draw, spec, backend, dtype)


@dataclass(frozen=True)
class Failure:
    """A program that is not as the loop, and how."""

    seed: int
    number: int
    text: str


@dataclass
class Report:
    """What came out of a run.

    verdicts: how many programs are as the loop, raise on both, are refused or not finite.
    refusals: what was refused that the loop can do, by its name in `compare.ALLOWED`.
    """

    seed: int
    programs: int = 0
    compared: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count:,} {name}" for name, count in self.verdicts.most_common())
        lines = [f"{self.programs:,} programs, {self.compared:,} tensors compared: {kinds}"]
        if not self.failures:
            lines.append("no program differs from the literal loop")
        lines += [f"refused, {count:,} times: {name}" for name, count in self.refusals.items()]
        lines += [f"program {f.number} of seed {f.seed}: {f.text}" for f in self.failures]
        return "\n".join(lines)


def fuzz(
    seed: int = 0,
    programs: int = 2000,
    minutes: float | None = None,
    first: int = 0,
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Run programs number ``first`` and on against the literal loop, in processes of their own.

    minutes: stop after so many, whatever is left. progress: is called about once a second.
    """
    report = Report(seed)
    until = None if minutes is None else time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory(prefix="elman-fuzz-") as folder:
        at, end = first, first + programs
        while at < end and (until is None or time.monotonic() < until):
            worker = _Worker(Path(folder), seed, at, min(at + CHUNK, end), report)
            at = worker.run(until, progress)
    return report


class _Worker:
    """One process, that runs some of the programs."""

    def __init__(self, folder: Path, seed: int, first: int, end: int, report: Report) -> None:
        self.folder, self.seed, self.first, self.end, self.report = folder, seed, first, end, report
        for name in ("now", "found"):
            (folder / name).write_bytes(b"")
        self.found = (folder / "found").open(encoding="utf-8")
        arguments = [str(seed), str(first), str(end), str(folder)]
        with (folder / "errors").open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "elman.testing.fuzz.worker", *arguments],
                env=os.environ | _ENVIRONMENT | {"ELMAN_CACHE": str(folder / "cache")},
                stdout=errors,
                stderr=errors,
            )

    def run(self, until: float | None, progress: Callable[[Report], None]) -> int:
        """Wait for it; the number of the program to go on with."""
        now, since = self.first, time.monotonic()
        try:
            while self.process.poll() is None:
                time.sleep(0.2)
                at = self._now()
                if at != now:
                    now, since = at, time.monotonic()
                self._read()
                progress(self.report)
                if until is not None and time.monotonic() > until:
                    return self.end
                if time.monotonic() - since > PATIENCE:
                    place = " < ".join(self._errors("  File ")[:12])
                    self._failed(now, f"has run for more than {PATIENCE:.0f} seconds: {place}")
                    return now + 1
        finally:
            self.process.kill()
            self.process.wait()
            self._read()
            self.found.close()
        if self.process.returncode == 0:
            return self.end
        now = self._now()
        self._failed(now, self._death())
        return now + 1

    def _now(self) -> int:
        data = (self.folder / "now").read_bytes()
        return struct.unpack("<q", data)[0] if len(data) == 8 else self.first

    def _read(self) -> None:
        for line in self.found:
            told = json.loads(line)
            report = self.report
            if "text" in told:
                self._failed(told["number"], told["text"])
            else:
                report.programs += told["programs"]
                report.compared += told["compared"]
                report.verdicts.update(told["verdicts"])
                report.refusals.update(told["refusals"])

    def _failed(self, number: int, text: str) -> None:
        self.report.failures.append(Failure(self.seed, number, text))

    def _death(self) -> str:
        code = self.process.returncode
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the process ended: {name} {' '.join(self._errors('')[-1:])[:200]}"

    def _errors(self, start: str) -> list[str]:
        """Lines that the process has written and that begin so."""
        text = (self.folder / "errors").read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        return [line.strip() for line in lines if line.startswith(start)]
