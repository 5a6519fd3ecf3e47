"""Secondary structure of proteins: helix, sheet or coil for each residue, from the sequence alone.

    python benchmarks/tables/protein.py --data ../shared/data

Train and test files of Qian & Sejnowski 1988; a share of the training proteins is held out to
choose the weights, the test file is read once.
"""

from common import Row, parsed, percent, report, tested, train

RECIPE = (
    "--hidden 64 --embedding 32 --dropout 0.5 --word-dropout 0.15 --valid-fraction 0.15 "
    "--learning-rate 0.002 --batch-size 8 --epochs 25"
)


def main() -> None:
    """Train once for each seed, print the table."""
    options = parsed("protein", __doc__)
    stem = options.data / "protein" / "protein-secondary-structure"
    files = [f"{stem}.train", "--test", f"{stem}.test"]
    done = [train(options, "tag", files, RECIPE, f"seed{seed}", seed) for seed in options.seeds]
    beside = tested(done[0])["baseline"]
    row = Row(
        "Q3, accuracy",
        [tested(t)["accuracy"] for t in done],
        "64.3 (two feed-forward networks, Qian & Sejnowski 1988)",
        f"62.2 (window-17 logistic), {percent(beside['accuracy'])} ({beside['name']})",
        percent=True,
    )
    report(options, "protein secondary structure, test", [row], [t.seconds for t in done])


if __name__ == "__main__":
    main()
