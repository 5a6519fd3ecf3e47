"""What all rows of the tables share: options, training by elman's own command, the table."""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.table import Table

from elman.data.core.files import read_json, write_json, write_text

M = TypeVar("M", bound=tuple[Any, ...])
#: From the options, and more, to rows and the seconds of each training.
Measure = Callable[..., tuple[list["Row"], list[float]]]

#: What a quick look adds to a recipe: the last of an option that is given twice counts.
QUICK = "--epochs 1 --steps 20"


@dataclass(frozen=True)
class Options:
    """What every row takes: where the data are, how often, how long."""

    name: str
    data: Path
    work: Path
    seeds: list[int]
    epochs: int | None
    also: str
    quick: bool
    keep: bool
    threads: int | None
    accelerator: str
    json: Path | None
    only: list[str] | None = None

    @property
    def machine(self) -> str:
        """What every `elman train` is told of the machine."""
        threads = "" if self.threads is None else f"--threads {self.threads} "
        return f"{threads}--accelerator {self.accelerator}"

    def chosen(self, models: Iterable[M]) -> list[M]:
        """The models, each with its name first, that --only leaves."""
        return [model for model in models if self.only is None or model[0] in self.only]

    @property
    def changes(self) -> str:
        """What follows a recipe to shorten or change it."""
        epochs = "" if self.epochs is None else f" --epochs {self.epochs}"
        return (f" {QUICK}" if self.quick else "") + f"{epochs} {self.also}".rstrip()

    @property
    def mark(self) -> str:
        """What the title of a table says of them."""
        if self.quick or self.epochs is not None:
            return " (CUT SHORT: no result)"
        return f" (ANOTHER RECIPE: {self.also})" if self.also else ""


def parsed(
    name: str, text: str | None, seeds: Sequence[int] = (0, 1, 2), only: Sequence[str] = ()
) -> Options:
    """The options on the command line of a row; text: its docstring; only: its models."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data"), help="where the data sets lie")
    add("--work", type=Path, default=Path("runs/tables"), help="run folders and prepared files")
    add("--seeds", type=int, nargs="+", default=list(seeds), help="one training each")
    if only:
        add("--only", nargs="+", choices=list(only), help="these models alone")
    add("--epochs", type=int, help="instead of the recipe's")
    add("--also", default="", help="options of `elman train` added to the recipe, in one word")
    add("--quick", action="store_true", help="a few steps of one seed: does it run?")
    add("--keep", action="store_true", help="keep what a former call finished")
    add("--threads", type=int, help="CPU threads; torch's choice if not given")
    add("--accelerator", default="cpu", help="cpu, gpu, auto")
    add("--json", type=Path, help="write all of it here")
    given = vars(parser.parse_args())
    given["seeds"] = given["seeds"][:1] if given["quick"] else given["seeds"]
    given["work"] = given["work"] / name
    given["work"].mkdir(parents=True, exist_ok=True)
    if given["threads"]:
        torch.set_num_threads(given["threads"])
    return Options(name=name, **given)


# Training


@dataclass(frozen=True)
class Training:
    """A finished `elman train`: its run folder, what scores.json says, the command's seconds."""

    folder: Path
    scores: dict[str, Any]
    seconds: float


def train(
    options: Options, task: str, given: Iterable[str | Path], recipe: str, run: str, seed: int
) -> Training:
    """Run `elman train TASK GIVEN RECIPE` in a process of its own.

    given: files and options that name files. run: the name of its folder. Raises SystemExit with
    the end of the log where the command fails.
    """
    folder = options.work / run
    words = [task, *map(str, given), *shlex.split(recipe + options.changes)]
    words += [*shlex.split(options.machine), "--seed", str(seed), "--out", str(folder)]
    done = options.work / f"{run}.json"
    if options.keep and done.is_file() and (former := read_json(done))["command"] == words:
        return Training(folder, former["scores"], former["seconds"])
    print(f"elman train {shlex.join(words)}", file=sys.stderr, flush=True)
    begin = time.perf_counter()
    log = options.work / f"{run}.log"
    with log.open("w", encoding="utf-8") as out:
        command = [sys.executable, "-m", "elman.cli", "train", *words, "--force"]
        code = subprocess.call(command, stdout=out, stderr=subprocess.STDOUT)
    if code:
        end = "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])
        raise SystemExit(f"{end}\n{log}: elman train ended with code {code}")
    seconds = time.perf_counter() - begin
    scores = folder / "scores.json"
    found = read_json(scores) if scores.is_file() else {}
    write_json(done, {"command": words, "scores": found, "seconds": seconds})
    return Training(folder, found, seconds)


def measured(
    options: Options, models: Sequence[tuple[str, Measure]], *given: Any
) -> tuple[list["Row"], list[float]]:
    """The rows of the models that --only leaves, and the seconds of each of their trainings."""
    found = [model(options, *given) for _, model in options.chosen(models)]
    return [row for rows, _ in found for row in rows], [s for _, took in found for s in took]


def tested(training: Training) -> dict[str, Any]:
    """The scores of a training on its test part; SystemExit where they are of another."""
    if training.scores.get("part") != "test":
        raise SystemExit(f"{training.folder}: was not scored on a test part")
    return training.scores


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a JSON object a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


# The table


@dataclass(frozen=True)
class Row:
    """One number of ours, once for each seed, beside what others have and the trivial answer.

    published: with its source. percent: whether values are shares that are shown times 100.
    """

    name: str
    values: list[float]
    published: str = ""
    baseline: str = ""
    percent: bool = False
    digits: int = 2

    @property
    def ours(self) -> str:
        """The mean, and the standard deviation over the seeds."""
        values = [100 * v if self.percent else v for v in self.values]
        spread = f" ± {statistics.stdev(values):.{self.digits}f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.{self.digits}f}{spread}"


def percent(share: float) -> str:
    """0.755 as 75.5."""
    return f"{100 * share:.1f}"


def report(
    options: Options, title: str, rows: Sequence[Row], seconds: Sequence[float], note: str = ""
) -> None:
    """Print the rows of a data set, and write them where --json says.

    seconds: of each training, the command as a whole.
    """
    mean = statistics.mean(seconds)
    table = Table(title=title + options.mark, title_justify="left", caption_justify="left")
    table.caption = f"seeds {options.seeds}; {mean:,.0f} s a training. {note}"
    for name in ("", "elman", "published", "baseline"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.name, row.ours, row.published, row.baseline)
    Console().print(table)
    if options.json is not None:
        value = {
            "table": title,
            "short": options.quick or options.epochs is not None,
            "also": options.also,
            "seeds": options.seeds,
            "rows": [{**asdict(row), "ours": row.ours} for row in rows],
            "seconds": list(seconds),
            "note": note,
            "machine": machine(options),
        }
        write_json(options.json, value)


def machine(options: Options) -> dict[str, Any]:
    """What the numbers were made on and with."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": options.accelerator,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("elman", "torch", "sacrebleu")},
    }
