"""Dates in many forms to ISO's: the data that `elman train translate` has with it.

    python benchmarks/tables/dates.py

The test part are dates that are drawn anew, without those that stand in the embedded data.
"""

from pathlib import Path

from common import Options, Row, parsed, percent, report, tested, train

from elman.data.core.files import write_text
from elman.data.synthetic.dates import dates
from elman.tasks.translate.processor import DATES

RECIPE = "--hidden 128 --epochs 10"
TESTED = 2000


def unseen(options: Options) -> Path:
    """A table of dates whose written form is not in the embedded data."""
    seen = {source for source, _ in dates(DATES, seed=1)}
    drawn = dict(pair for pair in dates(2 * TESTED, seed=2) if pair[0] not in seen)
    rows = [f"{source}\t{target}" for source, target in list(drawn.items())[:TESTED]]
    file = options.work / "test.tsv"
    write_text(file, "\n".join(["source\ttarget", *rows]) + "\n")
    return file


def main() -> None:
    """Train once for each seed, print the table."""
    options = parsed("dates", __doc__)
    files = ["--test", unseen(options)]
    done = [
        train(options, "translate", files, RECIPE, f"seed{seed}", seed) for seed in options.seeds
    ]
    beside = tested(done[0])["baseline"]
    row = Row(
        "exact match",
        [tested(t)["exact_match"] for t in done],
        "",
        f"{percent(beside['exact_match'])} ({beside['name']})",
        percent=True,
    )
    title = f"dates to ISO, {TESTED:,} unseen"
    report(options, title, [row], [t.seconds for t in done])


if __name__ == "__main__":
    main()
