"""DNA splice junctions (UCI): 60 bases, is there a junction in the middle, and of which kind?

    python benchmarks/tables/splice.py --data ../shared/data

Each base is read as a character, all 3,186 sequences are used, ten folds. A mark stands in the
middle of the 60 bases, where the junction is if there is one: logistic regression, the baseline, on
the 60 x 4 indicators and the same folds, knows each place by its column.
"""

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from common import Row, parsed, percent, report
from folds import Example, cross_validated
from torch import Tensor

RECIPE = (
    "--tokenizer char --hidden 64 --embedding 16 --pooling max --dropout 0.3 --learning-rate 0.01 "
    "--batch-size 32 --epochs 10"
)
MARK = "|"
BASES, LABELS = "ACGT", ("ei", "ie", "n")
#: Of the squared weights, per example.
DECAY = 1e-3


def junctions(file: Path) -> list[Example]:
    """The sequences, with the mark in the middle, and their labels."""
    with file.open(encoding="ascii", newline="") as rows:
        return [(f"{b[:30]}{MARK}{b[30:]}", label) for label, b in csv.reader(rows)]


def logistic_regression(train: Sequence[Example], test: Sequence[Example]) -> float:
    """Accuracy of softmax(W x + b), x the indicators of each base at each place."""
    x, y = _indicators(train)
    weight = torch.zeros(x.shape[1], len(LABELS), requires_grad=True)
    bias = torch.zeros(len(LABELS), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weight + bias, y) + DECAY * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    x, y = _indicators(test)
    return float(((x @ weight + bias).argmax(1) == y).float().mean())


def _indicators(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    sequences = (text.replace(MARK, "") for text, _ in examples)
    ids = torch.tensor([[BASES.index(base) for base in bases] for bases in sequences])
    labels = torch.tensor([LABELS.index(label) for _, label in examples])
    return F.one_hot(ids, len(BASES)).flatten(1).float(), labels


def main() -> None:
    """Ten trainings for each seed, which also draws the folds; print the table."""
    options = parsed("splice", __doc__, seeds=(0,))
    examples = junctions(options.data / "splice" / "splice.csv")
    found = cross_validated(options, examples, RECIPE, logistic_regression)
    beside = f"{percent(statistics.mean(found.baselines))} (logistic regression, same folds)"
    row = Row("accuracy", found.means, baseline=beside, percent=True)
    report(options, "splice junctions, ten folds", [row], found.seconds, found.note)


if __name__ == "__main__":
    main()
