"""Damaged files: each is read right, or refused with an error that says which and why.

    python -m tests.data.mutations --files 100000
    python -m tests.data.mutations --number 1234 --keep /tmp/file     one again, with its traceback

Each file is one of `seed_files`, changed by `mutators`; which and how is decided by the seed and
the file's number alone. It is read in a child process that may take no more than `MEMORY` bytes
beside what it has and `SECONDS` of the processor, runs no pickle and no other program, and is
replaced where it dies. A file passes where reading it

    raises an ElmanError that names a file, not one that is made of a lack of memory, or
    returns the same twice; and all records but the one that was changed are as in the seed.
"""

import argparse
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

MEMORY = 512 << 20
#: What the folder that all files lie in is called.
PREFIX = "elman-mutations-"
SECONDS = 5.0
#: After so long without a file a child hangs, however busy the machine is.
PATIENCE = 120.0
#: And before the first, as it writes the seeds and trains the runs.
BEGIN = 1800.0


@dataclass
class Report:
    """What came of files: by kind how many were refused and read; what failed."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, found: dict[str, Any]) -> None:
        """The outcome of one file."""
        self.counts.setdefault(found["kind"], Counter())[found["outcome"]] += 1
        self.seconds[found["kind"]] += found.get("seconds", 0.0)
        if found["outcome"] == "failed":
            self.failures.append(found)

    def __str__(self) -> str:
        lines = [
            f"{kind:22} {sum(c.values()):7,} files  {c['refused']:7,} refused  {c['read']:7,} read"
            f"  {c['failed']:5,} failed  {self.seconds[kind]:7.1f} s"
            for kind, c in sorted(self.counts.items())
        ]
        total = sum((c for c in self.counts.values()), Counter())
        return "\n".join([*lines, f"{sum(total.values()):,} files, {total['failed']:,} failed"])


def run(
    first: int,
    files: int,
    seed: int = 0,
    runs: str = "",
    only: str = "",
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Report:
    """Read so many damaged files in child processes. tell: is called with each failure."""
    report, at, end = Report(), first, first + files
    while at < end:
        with TemporaryDirectory(prefix=PREFIX) as folder:
            for found in _answers(at, end, seed, folder, runs, only):
                report.add(found)
                if found["outcome"] == "failed":
                    tell(found)
                at = found["number"] + 1
    return report


def _answers(
    first: int, end: int, seed: int, folder: str, runs: str, only: str
) -> Iterator[dict[str, Any]]:
    """What a child says of each file, and what became of the last where it died or hung."""
    given = [str(first), str(end), str(seed), folder, runs, only]
    command = [sys.executable, "-m", "tests.data.mutations", "--child", *given]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "TOKENIZERS_PARALLELISM": "false",
    }
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        begun: dict[str, Any] = {"number": first, "kind": "no file yet"}
        assert child.stdout is not None
        try:
            for line in _lines(child.stdout.fileno()):
                said = json.loads(line)
                if "outcome" not in said:
                    begun = said
                    continue
                yield said
                begun = {}
        except TimeoutError:
            yield {**begun, "outcome": "failed", "what": f"hung for {PATIENCE:.0f} s"}
            begun = {}
        finally:
            child.kill()
        code = child.wait()
    if begun.get("kind") == "no file yet":
        raise SystemExit(f"the process ended with {code} before it read a file; see above")
    if begun and begun["number"] < end:
        yield {**begun, "outcome": "failed", "what": f"the process ended with {code}"}


def _lines(descriptor: int) -> Iterator[bytes]:
    held, patience = b"", BEGIN
    while True:
        ready, _, _ = select.select([descriptor], [], [], patience)
        if not ready:
            raise TimeoutError
        data = os.read(descriptor, 1 << 16)
        if not data:
            return
        patience = PATIENCE
        *lines, held = (held + data).split(b"\n")
        yield from lines


# In the child


class TooSlow(BaseException):
    """A file took too long; no ``except Exception`` takes it for damage."""


class RanCode(BaseException):
    """A file would have run code."""


def child(first: int, end: int, seed: int, folder: Path, runs: str, only: str) -> None:
    """Read files, and say on standard output what came of each."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints
    kinds = all_kinds(folder, runs, only)
    seeds = {kind.name: kind.path.read_bytes() for kind in kinds}
    expected = {kind.name: plain(kind.read(kind.path)) for kind in kinds}
    with limited():
        for number in range(first, end):
            kind, data, record = mutated(number, seed, kinds, seeds)
            _say(out, number=number, kind=kind.name)
            kind.path.write_bytes(data)
            began = time.process_time()
            outcome, what = attempt(kind, expected[kind.name], record)
            seconds = time.process_time() - began
            kind.path.write_bytes(seeds[kind.name])
            found = {"outcome": outcome, "what": what, "seconds": seconds}
            _say(out, number=number, kind=kind.name, **found)
    os._exit(0)


def _say(out: int, **what: Any) -> None:
    os.write(out, json.dumps(what).encode() + b"\n")


def all_kinds(folder: Path, runs: str, only: str) -> list[Any]:
    """The kinds of files, written into a folder."""
    import torch

    from tests.data.seed_files import kinds

    torch.set_num_threads(1)
    found = kinds(folder)
    if runs:
        from tests.data.seed_runs import run_kinds

        found += run_kinds(folder, runs)
    return [kind for kind in found if not only or only in kind.name]


def mutated(
    number: int, seed: int, kinds: list[Any], seeds: dict[str, bytes]
) -> tuple[Any, bytes, int | None]:
    """The kind, the bytes and the changed record, where it is one alone, of a file."""
    from tests.data.mutators import changed, in_one_record

    draw = random.Random(f"{seed} {number}")
    [kind] = draw.choices(kinds, [kind.share for kind in kinds])
    data = seeds[kind.name]
    if kind.spans and draw.random() < 0.3:
        new = in_one_record(draw, data, list(kind.spans), kind.binary)
        at = next((i for i, (a, b) in enumerate(zip(data, new, strict=True)) if a != b), 0)
        record = next((i for i, s in enumerate(kind.spans) if s.start <= at < s.stop), None)
        return kind, new, record
    other = seeds[draw.choice(kinds).name]
    return kind, changed(draw, data, other, kind.own), None


@contextmanager
def limited() -> Iterator[None]:
    """Limits on memory, pickles and programs; a number that overflows silently is an error."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    signal.signal(signal.SIGPROF, _too_slow)
    sys.addaudithook(_audit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        yield


def _too_slow(*_: Any) -> None:
    raise TooSlow


def _audit(event: str, arguments: Any) -> None:
    if event in ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec"):
        raise RanCode(f"{event} {arguments}")


def attempt(kind: Any, expected: list[Any], record: int | None) -> tuple[str, str]:
    """What comes of reading a file: "refused", "read" or "failed", and why."""
    from elman.errors import ElmanError

    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        outcomes = [_once(kind, ElmanError) for _ in range(2)]
    except BaseException as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        return "failed", f"{type(error).__name__}: {_where(error)}: {str(error)[:200]}"
    signal.setitimer(signal.ITIMER_PROF, 0)
    if outcomes[0] != outcomes[1]:
        return "failed", f"read twice, it differs: {str(outcomes)[:300]}"
    refused, found = outcomes[0]
    if refused:
        # Where a run's options are damaged, a file of the data may be what no longer fits them.
        if any(name in refused for name in (str(kind.path.parent), PREFIX, "standard input")):
            return "refused", ""
        return "failed", f"no file is named: {refused[:300]}"
    if record is not None and not same_but_one(found, expected, record):
        return "failed", f"another record than {record} differs: {str(found)[:300]}"
    return "read", ""


def _once(kind: Any, refusal: type[Exception]) -> tuple[str, list[Any]]:
    try:
        return "", plain(kind.read(kind.path))
    except refusal as error:
        cause: BaseException | None = error
        while cause := cause.__cause__:
            if isinstance(cause, MemoryError) or "alloc" in str(cause):
                raise MemoryError(f"made into {error}") from error
        return f"{type(error).__name__}: {error}", []


def same_but_one(found: list[Any], expected: list[Any], record: int) -> bool:
    """Whether all records but this one, which may be left out, are as expected; what was skipped
    comes last."""
    others = [value for i, value in enumerate(expected[:-1]) if i != record]
    if len(found) == len(expected):
        return found[:record] + found[record + 1 : -1] == others
    return found[:-1] == others and found[-1] != expected[-1]


def plain(value: Any) -> Any:
    """A value that is equal to another where all in it has the same bits."""
    if hasattr(value, "tobytes"):
        return str(value.dtype), list(value.shape), value.tobytes().hex()
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {repr(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return repr(value)


def _where(error: BaseException) -> str:
    """The innermost line of elman's that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/elman/" in f.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].name}"


def again(number: int, seed: int, keep: Path | None, runs: str, only: str) -> None:
    """Read one file again, and show what comes of it."""
    with TemporaryDirectory(prefix=PREFIX) as folder:
        kinds = all_kinds(Path(folder), runs, only)
        seeds = {kind.name: kind.path.read_bytes() for kind in kinds}
        chosen, data, record = mutated(number, seed, kinds, seeds)
        print(f"{chosen.name}, changed record {record}: {data[:2000]!r}")
        if keep is not None:
            keep.write_bytes(data)
        chosen.path.write_bytes(data)
        for kind in kinds:  # what is loaded before the limits hold
            if kind is not chosen:
                kind.read(kind.path)
        with limited():
            try:
                print(str(plain(chosen.read(chosen.path)))[:2000])
            except BaseException:
                traceback.print_exc()


def _tell(failure: dict[str, Any]) -> None:
    print(f"{failure['number']:7} {failure['kind']}: {failure['what']}", flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    parser.add_argument("--runs", default="all", help="tasks whose runs are damaged too")
    parser.add_argument("--number", type=int, help="show this file alone")
    parser.add_argument("--keep", type=Path, help="write that file here")
    a = parser.parse_args()
    if a.number is not None:
        again(a.number, a.seed, a.keep, a.runs, a.only)
        return
    began = time.monotonic()
    report = run(a.first, a.files, a.seed, a.runs, a.only, _tell)
    print(f"{report}, {time.monotonic() - began:.0f} s")
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        numbers, folder, flags = sys.argv[2:5], sys.argv[5], sys.argv[6:8]
        child(*map(int, numbers), Path(folder), *flags)
    else:
        main()
