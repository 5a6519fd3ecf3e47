"""What may befall a training, at any moment: it is killed, a write fails; it goes on all the same.

    python -m tests.train.faults --kills 50
    python -m tests.train.faults --writes 50

Both print how often the last weights were those of the training that was never disturbed.
"""

import argparse
import errno
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tests.train.processes import trained

WORDS = ["red", "green", "blue", "one", "two", "three"]
OPTIONS: dict[str, Any] = {"hidden": 6, "batch_size": 4, "steps": 12, "validate_every": 5}
OPTIONS |= {"dropout": 0.2, "zoneout": 0.1, "checkpoint_seconds": 0.001}
KEPT = ("model.safetensors", "checkpoints/step-000000012/model.safetensors")
#: Events of the interpreter that change what is on the disk.
ADDS, REMOVES = ("os.rename", "os.mkdir"), ("os.remove", "os.rmdir")


def write_table(folder: Path) -> Path:
    """A table of texts with labels."""
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, 1 + n % 7)) for n in range(30)]
    path = folder / "classify.csv"
    path.write_text("\n".join(["text,label", *(f"{text},{text[0]}" for text in texts)]))
    return path


def weights(run: Path) -> list[bytes]:
    """The bytes of the best and of the last weights."""
    return [(run / name).read_bytes() for name in KEPT]


def whole(folder: Path) -> tuple[Path, list[bytes]]:
    """The table, and the weights of the training that was never disturbed."""
    path = write_table(folder)
    assert trained("classify", [path], folder / "whole", **OPTIONS) == ["well"]
    return path, weights(folder / "whole")


def go_on(table: Path, run: Path, **how: Any) -> list[str]:
    """Resume a run, or begin it where there is none yet; what the process said."""
    if (run / "config.json").is_file():
        return trained(None, [], run, **how)
    return trained("classify", [table], run, **OPTIONS | how)


# Killed


def killed(table: Path, run: Path, draw: random.Random, kills: int, most: float) -> int:
    """Kill a training so often, each time up to ``most`` seconds after it began; how often it was
    at work then. The last begin is left to its end."""
    hits = 0

    def kill(started: list[Any]) -> None:
        nonlocal hits
        time.sleep(draw.uniform(0, most))
        hits += started[0].is_alive()
        started[0].kill()

    for _ in range(kills):
        go_on(table, run, before=kill, answering=[])
    assert go_on(table, run) == ["well"]
    return hits


# A write that fails


class FailingWrites:
    """Makes writes below a folder fail in the process that calls it, from the ``first`` on.

    last: as many fail; None: all. The run folder is full, or is only read, or the disk is broken,
    as ``code`` says. counted: a file that gets the number of writes at the process's end.
    """

    def __init__(
        self,
        folder: Path,
        code: int,
        first: int = 0,
        last: int | None = None,
        counted: Path | None = None,
    ) -> None:
        self.folder, self.code, self.first, self.last = str(folder), code, first, last
        self.counted, self.number, self.counting = counted, 0, False

    def __call__(self) -> None:
        sys.addaudithook(self._audit)

    def _changes(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            flags = arguments[2]
            return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        # Of a full disk files can be removed.
        return event in ADDS or (event in REMOVES and self.code != errno.ENOSPC)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._changes(event, arguments):
            return
        if not str(arguments[0]).startswith(self.folder) or self.counting:
            return
        number, self.number = self.number, self.number + 1
        if self.counted is not None:
            self.counting = True
            self.counted.write_text(str(self.number))
            self.counting = False
        if number >= self.first and (self.last is None or number <= self.last):
            raise OSError(self.code, os.strerror(self.code), str(arguments[0]))


def failing(table: Path, run: Path, fault: FailingWrites) -> str:
    """What a training says whose writes fail; it is resumed where they succeed again."""
    [said] = go_on(table, run, inside=fault)
    assert go_on(table, run) == ["well"]
    return said


def writes_of(table: Path, run: Path) -> int:
    """How many writes a training has."""
    counted = run.with_name("counted")
    fault = FailingWrites(run, 0, first=sys.maxsize, counted=counted)
    assert go_on(table, run, inside=fault) == ["well"]
    return int(counted.read_text())


# A signal


class SignalWhileSaving:
    """Sends signals to the process while it writes its third checkpoint."""

    def __init__(self, *signals: int) -> None:
        self.signals = signals

    def __call__(self) -> None:
        from elman.train import checkpoint

        save, calls = checkpoint.save_tensors, iter(range(10**9))

        def saved(path: Path, tensors: Any) -> None:
            # Model, optimiser and carried state make a checkpoint.
            if next(calls) == 7:
                for number in self.signals:
                    os.kill(os.getpid(), number)
            save(path, tensors)

        checkpoint.save_tensors = saved


# The command


def _kills(folder: Path, count: int, seed: int) -> Iterator[str]:
    table, wanted = whole(folder)
    began = time.monotonic()
    trained("classify", [table], folder / "timed", **OPTIONS)
    most, draw = time.monotonic() - began, random.Random(seed)
    done = hits = same = runs = 0
    while hits < count:
        kills = min(draw.randint(1, 8), count - hits)
        run = folder / f"killed-{runs}"
        hits += killed(table, run, draw, kills, most)
        same += weights(run) == wanted
        done, runs = done + kills, runs + 1
    yield f"{done} kills, {hits} of them at work, of {runs} trainings: {same} ended the same"


def _failures(folder: Path, samples: int, seed: int) -> Iterator[str]:
    table, wanted = whole(folder)
    count, draw = writes_of(table, folder / "counting"), random.Random(seed)
    for code in (errno.ENOSPC, errno.EROFS, errno.EIO):
        numbers = sorted(draw.sample(range(count), min(samples, count)))
        same = named = 0
        for number in numbers:
            run = folder / f"failed-{code}-{number}"
            said = failing(table, run, FailingWrites(run, code, number))
            named += "Traceback" not in said
            same += weights(run) == wanted
        yield (
            f"{os.strerror(code)} from one of {count} writes on, {len(numbers)} times: {named} "
            f"ended with a clear message, {same} went on to the same weights"
        )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--writes", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    with TemporaryDirectory() as kills, TemporaryDirectory() as writes:
        for line in _kills(Path(kills), a.kills, a.seed) if a.kills else ():
            print(line, flush=True)
        for line in _failures(Path(writes), a.writes, a.seed) if a.writes else ():
            print(line, flush=True)


if __name__ == "__main__":
    main()
