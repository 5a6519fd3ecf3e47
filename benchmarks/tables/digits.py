"""8x8 digits, read row by row: 8 steps of 8 numbers.

    python benchmarks/tables/digits.py --data ../shared/data

The first half is trained on (a tenth of it chooses the weights), the second half is the test part,
as in scikit-learn's example "Recognizing hand-written digits".
"""

import gzip
from pathlib import Path

from common import Options, Row, parsed, percent, report, tested, train

from elman.data.core.files import write_text

RECIPE = "--step-size 8 --hidden 128 --dropout 0.2 --batch-size 32 --epochs 40"


def halves(options: Options) -> list[Path]:
    """The two halves as tables with the names of their columns."""
    with gzip.open(options.data / "digits" / "digits.csv.gz", "rt", encoding="ascii") as file:
        lines = [line.strip() for line in file if line.strip()]
    header = ",".join([*(f"p{i}" for i in range(64)), "label"])
    middle = len(lines) // 2
    files = []
    for part, rows in (("train", lines[:middle]), ("test", lines[middle:])):
        files.append(options.work / f"{part}.csv")
        write_text(files[-1], "\n".join([header, *rows]) + "\n")
    return files


def main() -> None:
    """Train once for each seed, print the table."""
    options = parsed("digits", __doc__)
    first, second = halves(options)
    files = [first, "--test", second]
    done = [
        train(options, "classify", files, RECIPE, f"seed{seed}", seed) for seed in options.seeds
    ]
    beside = tested(done[0])["baseline"]
    row = Row(
        "accuracy",
        [tested(t)["accuracy"] for t in done],
        "97 (support vectors, scikit-learn's example)",
        f"{percent(beside['accuracy'])} ({beside['name']})",
        percent=True,
    )
    report(options, "digits 8x8 by rows, test", [row], [t.seconds for t in done])


if __name__ == "__main__":
    main()
