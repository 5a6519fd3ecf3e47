"""Ten-fold cross-validation of `elman train classify`, beside a baseline on the same folds."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from common import Options, percent, tested, train, write_rows

T = TypeVar("T")

FOLDS = 10

#: A text and its label.
Example = tuple[str, str]
#: From the examples of a training part and of a test part to the accuracy on the test part.
Baseline = Callable[[Sequence[Example], Sequence[Example]], float]


@dataclass
class Found:
    """Accuracies by seed (means over the folds) and by fold, and the seconds of each training."""

    means: list[float] = field(default_factory=list)
    folds: list[float] = field(default_factory=list)
    baselines: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def note(self) -> str:
        """The spread over the folds, for the table."""
        if len(self.folds) < 2:
            return ""
        spread = percent(statistics.stdev(self.folds))
        return f"Deviation over the {len(self.folds)} trainings on a fold: {spread}."


def parts(
    examples: Sequence[T], seed: int, count: int = FOLDS
) -> Iterator[tuple[list[T], list[T]]]:
    """The training and the test part of each fold; each example is in one test part."""
    order = np.random.default_rng(seed).permutation(len(examples))
    fold_of = np.empty(len(examples), dtype=np.int64)
    fold_of[order] = np.arange(len(examples)) % count
    for fold in range(count):
        rest = [e for e, f in zip(examples, fold_of, strict=True) if f != fold]
        yield rest, [e for e, f in zip(examples, fold_of, strict=True) if f == fold]


def cross_validated(
    options: Options, examples: Sequence[Example], recipe: str, baseline: Baseline
) -> Found:
    """Train on nine folds and test on the tenth, ten times for each seed.

    The validation part, which chooses the weights, is a tenth of the nine folds.
    """
    found = Found()
    for seed in options.seeds:
        scores = []
        for fold, (rest, held_out) in enumerate(parts(examples, seed)):
            if options.quick and fold == 2:
                break
            name = f"seed{seed}-fold{fold}"
            files = [
                write_rows(options.work / f"{name}.{part}.jsonl", map(_row, rows))
                for part, rows in (("train", rest), ("test", held_out))
            ]
            done = train(options, "classify", [files[0], "--test", files[1]], recipe, name, seed)
            scores.append(tested(done)["accuracy"])
            found.seconds.append(done.seconds)
            found.baselines.append(baseline(rest, held_out))
        found.means.append(statistics.mean(scores))
        found.folds += scores
    return found


def _row(example: Example) -> dict[str, str]:
    return {"text": example[0], "label": example[1]}
