"""Spoken digits (Free Spoken Digit Dataset): which digit, by whom it may be spoken, and in a row.

    python benchmarks/tables/fsdd.py --data ../shared/data

official: recordings 0 to 4 of each digit and speaker are the test part, as the data set says.
speakers: six trainings, each tested on the speaker that it has not heard; the recipe was chosen
by trainings on four speakers, validated on a fifth.
strings: recordings of one speaker joined to 3 to 7 digits, transcribed; strings of the test part
are made of recordings 0 to 4 alone, those of the validation part of 5 to 7, training of the rest.
"""

import csv
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from common import Options, Row, Training, parsed, percent, report, tested, train

OFFICIAL = (
    "--hidden 128 --dropout 0.4 --pooling max --batch-size 32 --learning-rate 0.003 --epochs 12 "
    "--frequency-mask 4 --gain 6"
)
SPEAKERS = (
    "--per-sound --dynamic-range 30 --hidden 96 --dropout 0.5 --variational-dropout 0.3 "
    "--pooling mean --batch-size 64 --learning-rate 0.004 --epochs 5"
)
STRINGS = "--frames 3 --hidden 128 --dropout 0.2 --batch-size 16 --learning-rate 0.004 --epochs 6"
#: Strings of each part.
COUNTS = {"train": 2400, "valid": 240, "test": 300}


class Recording(NamedTuple):
    """One spoken digit."""

    file: Path
    digit: str
    speaker: str
    index: int


def recordings(folder: Path) -> list[Recording]:
    """All of them: DIGIT_SPEAKER_INDEX.wav."""
    found = []
    for file in sorted(folder.glob("*.wav")):
        digit, speaker, index = file.stem.split("_")
        found.append(Recording(file, digit, speaker, int(index)))
    if not found:
        raise SystemExit(f"{folder}: holds no recordings")
    return found


def table(path: Path, rows: Iterable[Sequence[str]], text: str) -> Path:
    """Write a table of files and what is said in each."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", text), *rows])
    return path


def labelled(options: Options, name: str, some: Iterable[Recording]) -> Path:
    """A table of recordings with their digits."""
    rows = [(str(one.file.resolve()), one.digit) for one in some]
    return table(options.work / f"{name}.csv", rows, "label")


def official(options: Options, all_of_them: Sequence[Recording]) -> list[Training]:
    """Train on recordings from 5 on, once for each seed."""
    rest = labelled(options, "train", (one for one in all_of_them if one.index >= 5))
    test = labelled(options, "test", (one for one in all_of_them if one.index < 5))
    files = [rest, "--test", test]
    return [train(options, "classify", files, OFFICIAL, f"official{s}", s) for s in options.seeds]


def by_speaker(options: Options, all_of_them: Sequence[Recording]) -> dict[str, list[Training]]:
    """Train without each speaker, test on that speaker's recordings."""
    done: dict[str, list[Training]] = {}
    for name in sorted({one.speaker for one in all_of_them}):
        rest = labelled(options, f"not-{name}", (o for o in all_of_them if o.speaker != name))
        test = labelled(options, f"only-{name}", (o for o in all_of_them if o.speaker == name))
        done[name] = [
            train(options, "classify", [rest, "--test", test], SPEAKERS, f"{name}{seed}", seed)
            for seed in options.seeds
        ]
    return done


def strings(options: Options, all_of_them: Sequence[Recording]) -> list[Training]:
    """Train on recordings that are joined, once for each seed."""
    given = {"train": range(8, 1000), "valid": range(5, 8), "test": range(5)}
    files = {}
    for number, (part, indices) in enumerate(given.items()):
        some = [one for one in all_of_them if one.index in indices]
        draw = np.random.default_rng(number)
        files[part] = joined(options.work / f"strings-{part}", some, COUNTS[part], draw)
    named = [files["train"], "--valid", files["valid"], "--test", files["test"]]
    return [train(options, "transcribe", named, STRINGS, f"strings{s}", s) for s in options.seeds]


def joined(folder: Path, some: Sequence[Recording], count: int, draw: np.random.Generator) -> Path:
    """Write strings of three to seven recordings of one speaker, and their table."""
    folder.mkdir(exist_ok=True)
    of_speaker: dict[str, list[Recording]] = {}
    for one in some:
        of_speaker.setdefault(one.speaker, []).append(one)
    rows = []
    for number in range(count):
        own = of_speaker[str(draw.choice(sorted(of_speaker)))]
        chosen = [own[i] for i in draw.integers(len(own), size=draw.integers(3, 8))]
        sounds = [soundfile.read(one.file, dtype="int16") for one in chosen]
        rates = {rate for _, rate in sounds}
        assert len(rates) == 1, rates
        name = f"{number}.wav"
        soundfile.write(folder / name, np.concatenate([x for x, _ in sounds]), rates.pop())
        rows.append((name, "".join(one.digit for one in chosen)))
    return table(folder / "table.csv", rows, "text")


def main() -> None:
    """All three, once for each seed; print the table."""
    options = parsed("fsdd", __doc__, seeds=(0,))
    found = recordings(options.data / "fsdd" / "recordings")
    one, several, rows = (
        official(options, found),
        by_speaker(options, found),
        strings(options, found),
    )
    means = [
        statistics.mean(tested(trainings[i])["accuracy"] for trainings in several.values())
        for i in range(len(options.seeds))
    ]
    each = {
        name: statistics.mean(tested(t)["accuracy"] for t in trainings)
        for name, trainings in several.items()
    }
    beside = tested(rows[0])["baseline"]
    table_rows = [
        Row("accuracy, official split", [tested(t)["accuracy"] for t in one], "",
            "95.7 (logistic regression)", percent=True),
        Row("accuracy, leave one speaker out", means, "", "69 (logistic regression)",
            percent=True),
        Row("strings of digits, character error", [tested(t)["char_error_rate"] for t in rows],
            "", f"{percent(beside['char_error_rate'])} ({beside['name']})", percent=True),
        Row("strings of digits, exact match", [tested(t)["exact_match"] for t in rows], "",
            f"{percent(beside['exact_match'])} ({beside['name']})", percent=True),
    ]  # fmt: skip
    trainings = [*one, *(t for some in several.values() for t in some), *rows]
    note = "Speakers: " + ", ".join(f"{name} {percent(a)}" for name, a in each.items()) + "."
    seconds = [t.seconds for t in trainings]
    report(options, "FSDD, spoken digits, test", table_rows, seconds, note)


if __name__ == "__main__":
    main()
