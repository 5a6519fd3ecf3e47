"""Characters of tinyshakespeare: validation nats of a language model, two layers of 512.

    python benchmarks/tables/tinyshakespeare.py --data ../shared/data

The last tenth by position is the validation part, as in the published numbers; it chooses the
weights there and here, and there is no test part. The baseline counts pairs of characters in the
training part, with one added to each.
"""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

from common import Row, parsed, report, train

from elman.train.watch import read_metrics

CELLS = ("lstm", "gru", "min-gru")
RECIPE = (
    "--hidden 512 --layers 2 --dropout 0.4 --bptt 128 --batch-size 64 --learning-rate 0.003 "
    "--epochs 15"
)
PUBLISHED = {
    "lstm": "1.88 (Transformer, 3 min on a CPU, nanoGPT)",
    "min-gru": "1.548 (minGRU, Feng et al. 2024)",
}


def pairs(text: str) -> float:
    """Nats a character of the last tenth, each from the one before it."""
    middle, kinds = int(len(text) * 0.9), len(set(text))
    train, valid = text[:middle], text[middle:]
    both, one = Counter(pairwise(train)), Counter(train[:-1])
    nats = [math.log((one[a] + kinds) / (both[a, b] + 1)) for a, b in pairwise(valid)]
    return sum(nats) / len(nats)


def lowest(run: Path) -> float:
    """The lowest validation loss of a run: that of the weights that it keeps."""
    losses = (row.get("valid_loss_nats") for row in read_metrics(run / "metrics.csv"))
    return min(loss for loss in losses if loss is not None)


def main() -> None:
    """Train each cell once for each seed, print the table."""
    options = parsed("tinyshakespeare", __doc__, seeds=(0,))
    file = options.data / "tinyshakespeare" / "input.txt"
    beside = f"{pairs(file.read_text('utf-8')):.3f} (pairs of characters)"
    rows, seconds = [], []
    for cell in CELLS:
        recipe, values = f"--cell {cell} {RECIPE}", []
        for seed in options.seeds:
            done = train(options, "lm", [file], recipe, f"{cell}-seed{seed}", seed)
            losses = (
                row.get("valid_loss_nats") for row in read_metrics(done.folder / "metrics.csv")
            )
            values.append(min(loss for loss in losses if loss is not None))
            seconds.append(done.seconds)
        rows.append(Row(f"{cell}, nats", values, PUBLISHED.get(cell, ""), beside, digits=3))
    report(options, "tinyshakespeare, validation", rows, seconds)


if __name__ == "__main__":
    main()
