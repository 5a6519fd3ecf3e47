"""Characters of tinyshakespeare: validation nats of language models, small and large.

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

SMALL = "--hidden 256 --dropout 0.1 --ema-decay 0.99 --epochs 10"
LARGE = (
    "--hidden 512 --layers 2 --dropout 0.4 --bptt 128 --batch-size 64 --learning-rate 0.003 "
    "--epochs 15"
)
TRANSFORMER = "1.88 (Transformer, 3 min on a CPU, nanoGPT)"
MIN_GRU = "1.548 (minGRU, Feng et al. 2024)"
#: Name, recipe, published.
MODELS = (
    ("lstm", f"--cell lstm {SMALL}", TRANSFORMER),
    ("gru", f"--cell gru {SMALL}", TRANSFORMER),
    ("lstm-2x512", f"--cell lstm {LARGE}", MIN_GRU),
    ("gru-2x512", f"--cell gru {LARGE}", MIN_GRU),
    ("min-gru-2x512", f"--cell min-gru {LARGE}", MIN_GRU),
)


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
    options = parsed("tinyshakespeare", __doc__, seeds=(0,), only=[name for name, *_ in MODELS])
    file = options.data / "tinyshakespeare" / "input.txt"
    beside = f"{pairs(file.read_text('utf-8')):.3f} (pairs of characters)"
    rows, seconds = [], []
    for name, recipe, published in options.chosen(MODELS):
        values = []
        for seed in options.seeds:
            done = train(options, "lm", [file], recipe, f"{name}-seed{seed}", seed)
            values.append(lowest(done.folder))
            seconds.append(done.seconds)
        rows.append(Row(f"{name}, nats", values, published, beside, digits=3))
    report(options, "tinyshakespeare, validation", rows, seconds)


if __name__ == "__main__":
    main()
