"""A tiny run of each task, and what reads its files: load, predict, resume, the commands."""

import io
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from elman.cli.main import main
from elman.errors import DataError
from elman.tasks import TASKS, load, task_of
from elman.train import training
from elman.train.run import open_run
from tests.data import mutators as m
from tests.data.seed_files import Kind, _written
from tests.data.sounds import write_sounds

SMALL: dict[str, Any] = {"hidden": 4, "steps": 2, "batch_size": 4, "threads": 1}
SMALL |= {"accelerator": "cpu", "log_every": 1, "valid_fraction": 0.3}
WORDS = ["red", "green", "blue", "one", "two", "three"]
Read = Callable[[Path], list[Any]]


def run_kinds(folder: Path, names: str) -> Iterator[Kind]:
    """A kind for each file of each run, and for what commands are given.

    names: of the tasks, with commas between them; "all" are all.
    """
    top = folder / "runs"
    files = _files(folder / "given")
    chosen = list(files) if names == "all" else names.split(",")
    for name in chosen:
        given, options = files[name]
        run = top / name
        task = TASKS[name.partition(" ")[0]]
        built = task.options_type(**SMALL | options)
        quiet = Console(file=io.StringIO())
        training.train(task, [str(given)], built, run, False, quiet)
        for path in _kept(run):
            own = (m.safetensors_header,) if path.suffix == ".safetensors" else m.JSON
            read = _answers(run, given)
            yield Kind(f"{name}: {path.name}", path, read, own, share=0.12)
    for name in {"classify", "lm", "forecast"} & set(chosen):
        config = top / name / "config.json"
        yield Kind(f"resume {name}", config, _resumed(top / name), m.JSON, share=0.02)
    yield from _commands(folder / "given", top, chosen)


def _kept(run: Path) -> list[Path]:
    found = [*sorted(run.glob("*.json")), run / "model.safetensors"]
    return [path for path in found if path.name != "scores.json"]


def _files(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Task, perhaps with a word after it -> a file to train on, and options."""
    from PIL import Image

    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, 1 + n % 5)) for n in range(24)]
    csv = "text,label\n" + "".join(f"{t},{t[0]}\n" for t in texts)
    tags = "\n".join("".join(f"{w}\t{w[0]}\n" for w in t.split()) for t in texts)
    numbers = "a,b,c,label\n" + "".join(f"{i},{i % 3},{-i},{'xy'[i % 2]}\n" for i in range(16))
    days = "".join(f"2024-0{1 + i // 28}-{1 + i % 28:02},{5 + i % 7}.5\n" for i in range(84))
    boxes = "".join(f"{f},{t},{f * t},2,{3 + t},4,1\n" for t in range(1, 9) for f in range(9))
    rolls = {f"train_{i}": (draw.random((9, 88)) < 0.1).astype(np.uint8) for i in range(6)}
    (folder / "music").mkdir(parents=True)
    np.savez(folder / "music/a.npz", **rolls)
    captions = "image,caption\n"
    for i in range(8):
        path = folder / f"captions/p{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
        captions += f"p{i}.png,{texts[i]}\n"
    spoken = ["abc"[i % 3] * (1 + i % 2) for i in range(8)]
    names = write_sounds(folder / "sounds", spoken)
    sounds = "file,text\n" + "".join(f"{n},{t}\n" for n, t in zip(names, spoken, strict=True))
    eight = {"size": "8"}
    return {
        "lm": (_written(folder, "lm.txt", "\n".join(texts * 4)), {"bptt": 4, "tokenizer": "char"}),
        "classify": (_written(folder, "classify.csv", csv), {}),
        "classify numbers": (_written(folder, "numbers.csv", numbers), {}),
        "tag": (_written(folder, "tag.conll", tags), {}),
        "translate": (
            _written(folder, "pairs.tsv", "".join(f"{t}\t{t[::-1]}\n" for t in texts)),
            {},
        ),
        "generate": (_written(folder, "generate.csv", csv), {}),
        "forecast": (
            _written(folder, "days.csv", "date,y\n" + days),
            {"horizon": 2, "context": 4, "valid_fraction": 0.2},
        ),
        "track": (_written(folder, "gt.txt", boxes), {"observe": 3, "predict": 2}),
        "music": (folder / "music/a.npz", {}),
        "caption": (_written(folder, "captions/list.csv", captions), {"features": 4, **eight}),
        "pixels": (folder / "captions", {"levels": 4, **eight}),
        "transcribe": (_written(folder, "sounds/list.csv", sounds), {"tokenizer": "char"}),
    }


def _answers(run: Path, given: Path) -> Read:
    def read(_: Path) -> list[Any]:
        torch.manual_seed(0)
        loaded = load(run)
        task = loaded.run.config["task"]
        if task in ("lm", "generate"):
            return [list(islice(loaded.generate(seed=0, **_short(task)), 3))]
        return [answer.record for answer in islice(loaded.predict(loaded.read_inputs(given)), 3)]

    return read


def _short(task: str) -> dict[str, int]:
    return {"length": 5} if task == "lm" else {"count": 2}


def _resumed(run: Path) -> Read:
    def read(config: Path) -> list[Any]:
        copy = run.with_name(f"{run.name}-resumed")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        opened = open_run(copy)
        quiet = Console(file=io.StringIO())
        training.resume(task_of(opened), opened, quiet, steps=3)
        return [(copy / "model.safetensors").read_bytes().hex()]

    return read


def _commands(given: Path, runs: Path, chosen: list[str]) -> Iterator[Kind]:
    """Commands on damaged files; all that they print, and an error as it is printed."""
    for name, file, own in (
        ("classify", "classify.csv", m.TEXT),
        ("forecast", "days.csv", m.TEXT),
        ("track", "gt.txt", m.TEXT),
        ("music", "music/a.npz", (m.zip_member,)),
        ("transcribe", "sounds/s000.wav", ()),
        ("pixels", "captions/p0.png", ()),
        ("tag", "tag.conll", m.TEXT),
    ):
        for command in ("predict", "eval"):
            if name not in chosen or (command == "eval" and name in ("transcribe", "pixels")):
                continue
            arguments = [command, str(runs / name), *(["--file"] if command == "predict" else [])]

            def read(f, a=arguments):
                return _said([*a, str(f)])

            yield Kind(f"elman {command}: {name}", given / file, read, own, share=0.1)
    if "lm" not in chosen:
        return
    config = runs / "lm" / "config.json"

    def sample(f):
        return _said(["sample", str(f.parent), "--length", "5", "--seed", "0"])

    yield Kind("elman sample: lm", config, sample, m.JSON, share=0.1)


def _said(arguments: list[str]) -> list[Any]:
    out, error = io.StringIO(), io.StringIO()
    out.buffer = io.BytesIO()  # type: ignore[attr-defined]
    before, sys.argv = sys.argv, ["elman", *arguments]
    code: Any = 0
    try:
        with redirect_stdout(out), redirect_stderr(error):
            main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    said = error.getvalue()
    assert "Traceback" not in said, said
    if code in (1, 2) and "error: " in said:
        raise DataError(said)
    assert code == 0, (code, said)
    return [out.getvalue()]
