"""`elman train lm`: a text in, a language model out."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from elman.cells import Cell
from elman.data.corpus import Part, Streams, encode_part, fit_tokenizer, require_enough
from elman.data.files import write_text
from elman.data.text import Text
from elman.data.tokenizer import Tokenizer, load_tokenizer, tokenizer_class
from elman.errors import DataError
from elman.models import LanguageModel
from elman.train.custom_cell import cell_argument, cell_class
from elman.train.fit import fit, process_rank, require_accelerator, use_threads
from elman.train.language_options import TASK, LanguageModelOptions, build_model, options_of
from elman.train.progress import reported
from elman.train.run import Run, new_run, open_run
from elman.train.trained import Units, load, trusted_cell


def train(
    files: list[str], options: LanguageModelOptions, out: Path, force: bool, console: Console
) -> Run:
    """Train from the beginning into a new run folder."""
    require_accelerator(options.accelerator)
    build = cell_class(options.cell)
    build_model(options, 2, build)  # finds what no model can have before any work is done
    if process_rank() > 0:
        return _go_on(open_run(out), options, build, console)
    options = replace(options, valid=[str(Path(file).resolve()) for file in options.valid])
    with new_run(out, force) as run:
        run.save_config(
            {
                "task": TASK,
                "files": [str(Path(file).resolve()) for file in files],
                "options": asdict(options),
            }
        )
        _prepare(run, options, console)
    return _go_on(run, options, build, console)


def resume(
    folder: Path,
    console: Console,
    cell: str | None = None,
    patience: int | None = None,
    **length: Any,
) -> Run:
    """Go on with an interrupted run, or train a finished one for longer.

    cell: the file of a cell of one's own, as path.py:ClassName. patience: another one. length:
    epochs, minutes and steps, the new length of the training where one of them is given.
    """
    run = open_run(folder)
    options = options_of(run)
    if any(value is not None for value in length.values()):
        options = replace(options, **length)
    if patience is not None:
        options = replace(options, patience=patience)
    if options != options_of(run):
        run.save_config({**run.config, "options": asdict(options)})
    return _go_on(run, options, cell_class(trusted_cell(run, options, cell)), console)


def _texts(files: list[str], options: LanguageModelOptions) -> tuple[Text, Text | None]:
    strict = options.tokenizer != "byte"
    return Text(files, strict), Text(options.valid, strict) if options.valid else None


def _prepare(run: Run, options: LanguageModelOptions, console: Console) -> None:
    """Learn the units, write the text as numbers, and say so in config.json when it is done."""
    text, held_out = _texts(run.config["files"], options)
    with reported(console) as report:
        total = text.count()
        stop = total if held_out else int(total * (1 - options.valid_fraction))
        kind = tokenizer_class(options.tokenizer)
        size = options.vocab_size or {"word": 20_000}.get(options.tokenizer)
        tokenizer = fit_tokenizer(kind, text, stop, size, report)
        train = encode_part(
            text.blocks(0, stop), tokenizer, run.folder, "data/train.bin", report, stop
        )
        rest = held_out.blocks() if held_out else text.blocks(stop)
        count = held_out.count() if held_out else total - stop
        valid = encode_part(rest, tokenizer, run.folder, "data/valid.bin", report, count)
    _require_enough(train, valid, options)
    tokenizer.save(run.tokenizer_file)
    data = {"train": train.to_json(), "valid": valid.to_json()}
    found = {"data": data, "vocab_size": tokenizer.vocab_size}
    run.save_config({**run.config, **found, "prompt": _first_prompt(run, train, tokenizer)})


def _first_prompt(run: Run, train: Part, tokenizer: Tokenizer) -> str:
    """A line end where the model knows one, else the first unit of the text that it knows."""
    ids = tokenizer.encode("\n")
    if tokenizer.unknown_id in ids:
        ids = train.ids(run.folder)
        ids = ids[ids != tokenizer.unknown_id]
    if not len(ids):
        raise DataError("no unit of the training part is in the vocabulary; raise --vocab-size")
    return tokenizer.decode(ids[:1].tolist())


def _require_enough(train: Part, valid: Part, options: LanguageModelOptions) -> None:
    require_enough(train.tokens, options.batch_size, options.bptt, "the training part")
    if valid.tokens < 2:
        raise DataError(
            f"the validation part has {valid.tokens} tokens and needs 2 or more; give a larger "
            "--valid-fraction, or a file with --valid"
        )


def _go_on(run: Run, options: LanguageModelOptions, build: type[Cell], console: Console) -> Run:
    """Train from where the run stands to its end, then write the sample."""
    use_threads(options.threads)
    if process_rank() == 0:
        run.remove_unfinished()
        if "data" not in run.config:
            _prepare(run, options, console)
    tokenizer = load_tokenizer(run.tokenizer_file)
    parts = {name: Part.from_json(part) for name, part in run.config["data"].items()}
    torch.manual_seed(options.seed)
    model = build_model(options, tokenizer.vocab_size, build)
    train_streams, valid_streams = _streams(run, parts, options)
    units = Units.of(parts["valid"])
    if process_rank() == 0:
        _announce(run, model, tokenizer, parts, options, console)
    ended = fit(
        run,
        model,
        options,
        train_streams,
        valid_streams,
        describe=units.describe,
        characters_per_token=units.characters_per_token,
        console=console,
    )
    if not ended:
        again = f"elman train --resume {run.folder}{cell_argument(options.cell)}"
        if process_rank() == 0:
            console.print(f"interrupted; go on with: {again}", highlight=False, markup=False)
        raise KeyboardInterrupt
    if process_rank() == 0:
        _write_sample(run, build)
    return run


def _streams(
    run: Run, parts: dict[str, Part], options: LanguageModelOptions
) -> tuple[Streams, Streams]:
    train, valid = (parts[name].ids(run.folder) for name in ("train", "valid"))
    # A short validation part is read in fewer streams rather than in ones without a past.
    wanted = max(1, len(valid) // (4 * options.bptt))
    rows = min(options.batch_size, wanted - wanted % options.devices or 1)
    return (
        Streams(train, options.batch_size, options.bptt),
        Streams(valid, rows, options.bptt),
    )


def _announce(
    run: Run,
    model: LanguageModel,
    tokenizer: Tokenizer,
    parts: dict[str, Part],
    options: LanguageModelOptions,
    console: Console,
) -> None:
    count = sum(p.numel() for p in model.parameters())
    train, valid = parts["train"], parts["valid"]
    console.print(
        f"{train.tokens:,} training and {valid.tokens:,} validation tokens of "
        f"{tokenizer.vocab_size} kinds ({options.tokenizer}); {options.layers} x "
        f"{options.hidden} {options.cell}, {count:,} parameters; {run.folder}",
        highlight=False,
    )
    if train.unknown or valid.unknown:
        console.print(
            f"units outside the vocabulary, read as one: {train.unknown:,} in training, "
            f"{valid.unknown:,} in validation",
            highlight=False,
        )


def _write_sample(run: Run, build: type[Cell]) -> None:
    """sample.txt: what the best weights write."""
    loaded = load(run.folder, build)
    sample = "".join(loaded.write(length=1000, temperature=0.7, seed=loaded.options.seed))
    write_text(run.folder / "sample.txt", (loaded.prompt + sample).lstrip("\n") + "\n")
