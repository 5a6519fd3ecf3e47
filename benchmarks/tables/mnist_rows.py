"""MNIST, read row by row: 28 steps of 28 numbers.

    python benchmarks/tables/mnist_rows.py --data ../shared/data

A tenth of the training pictures chooses the weights; the 10,000 test pictures are read once.
"""

from pathlib import Path

import numpy as np
from common import Options, Row, parsed, percent, report, tested, train

from elman.data.core.files import written_aside
from elman.data.images.idx import read_idx

RECIPE = (
    "--hidden 128 --pooling max --dropout 0.2 --learning-rate 0.003 --batch-size 128 "
    "--ema-decay 0.99 --epochs 8"
)


def archive(options: Options, part: str, stem: str) -> Path:
    """Pictures and labels as the .npz that `elman train classify` reads."""
    folder, file = options.data / "mnist", options.work / f"{part}.npz"
    pictures, labels = (
        read_idx(folder / f"{stem}-{kind}.gz")
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    with written_aside(file) as aside, aside.open("wb") as out:
        np.savez(out, x=pictures, y=labels)
    return file


def main() -> None:
    """Train once for each seed, print the table."""
    options = parsed("mnist_rows", __doc__)
    files = [archive(options, "train", "train"), "--test", archive(options, "test", "t10k")]
    done = [
        train(options, "classify", files, RECIPE, f"seed{seed}", seed) for seed in options.seeds
    ]
    beside = tested(done[0])["baseline"]
    row = Row(
        "accuracy",
        [tested(t)["accuracy"] for t in done],
        "",
        f"{percent(beside['accuracy'])} ({beside['name']})",
        percent=True,
    )
    report(options, "MNIST by rows, test", [row], [t.seconds for t in done])


if __name__ == "__main__":
    main()
