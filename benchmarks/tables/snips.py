"""Slots and intents of SNIPS: one bidirectional LSTM with a CRF for the slots, a label on top.

    python benchmarks/tables/snips.py --data ../shared/data

Split of Goo et al. 2018: 13,084 / 700 / 700 sentences. The recipe was found on the training part,
a third of it held out in turn (`--only thirds`); then the validation part chooses the weights, by
whole frames, and the test part is read once.
"""

import statistics
from pathlib import Path

from common import Options, Row, measured, parsed, report, tested, train
from folds import parts

from elman.data.core.files import write_text

RECIPE = (
    "--min-count 2 --hidden 200 --embedding 200 --crf --dropout 0.5 --word-dropout 0.05 "
    "--global-context --learning-rate 0.002 --ema-decay 0.999 --batch-size 32 --epochs 20"
)
SOURCE = "slot-gated BiLSTM, Goo et al. 2018"
WORDS = "each word's commonest tag"
#: Name of the score, of the row, published, a baseline. elman's own takes the words that the recipe
#: does not know for one, and so is weaker.
SCORES = (
    ("span_f1", "slot F1", "88.8", f"50.0 ({WORDS}, of all words)"),
    ("label_accuracy", "intent", "97.0", "97.3 (bag of words)"),
    ("frame_accuracy", "whole frame", "75.5", f"3.0 ({WORDS}, of all words)"),
)
FOLDS = 3
FILES = ("seq.in", "seq.out", "label")


def folds(options: Options, folder: Path) -> list[list[str | Path]]:
    """What `elman train` is given to learn from two thirds of a folder and validate on one."""
    columns = [(folder / name).read_text("utf-8").splitlines() for name in FILES]
    found: list[list[str | Path]] = []
    for fold, two in enumerate(parts(list(zip(*columns, strict=True)), seed=0, count=FOLDS)):
        rest, held_out = (options.work / f"fold{fold}" / part for part in ("train", "valid"))
        for path, rows in zip((rest, held_out), two, strict=True):
            for name, lines in zip(FILES, zip(*rows, strict=True), strict=True):
                write_text(path / name, "".join(f"{line}\n" for line in lines))
        found.append([rest, "--valid", held_out])
    return found


def on_thirds(options: Options) -> tuple[list[Row], list[float]]:
    """The rows of thirds of the training part held out in turn, and the seconds of each training.

    A tag that stands in one third alone is left out with its sentence.
    """
    recipe = f"{RECIPE} --keep-weights last --skip-unknown-labels"
    thirds = folds(options, options.data / "snips" / "train")
    done = [
        [
            train(options, "tag", files, recipe, f"seed{seed}-fold{fold}", seed)
            for fold, files in enumerate(thirds)
        ]
        for seed in options.seeds
    ]
    rows = [
        Row(
            f"{name}, thirds held out",
            [statistics.mean(t.scores[score] for t in trainings) for trainings in done],
            percent=True,
        )
        for score, name, *_ in SCORES
    ]
    return rows, [t.seconds for trainings in done for t in trainings]


def on_test(options: Options) -> tuple[list[Row], list[float]]:
    """The rows of the test part, and the seconds of each training."""
    folder = options.data / "snips"
    files = [folder / "train", "--valid", folder / "valid", "--test", folder / "test"]
    done = [train(options, "tag", files, RECIPE, f"seed{seed}", seed) for seed in options.seeds]
    rows = [
        Row(
            f"{name}, test",
            [tested(t)[score] for t in done],
            f"{published} ({SOURCE})",
            baseline,
            percent=True,
        )
        for score, name, published, baseline in SCORES
    ]
    return rows, [t.seconds for t in done]


MODELS = (("thirds", on_thirds), ("test", on_test))


def main() -> None:
    """Train for each seed, print the table."""
    options = parsed("snips", __doc__, only=[name for name, _ in MODELS])
    rows, seconds = measured(options, MODELS)
    report(options, "SNIPS, slots and intent", rows, seconds)


if __name__ == "__main__":
    main()
