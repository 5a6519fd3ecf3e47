"""Japanese vowels (Kudo et al. 1999, UCI): which of nine speakers says /ae/?

    python benchmarks/tables/japanese_vowels.py --data ../shared/data

Series of 7 to 29 steps of 12 coefficients in sktime's .ts, in the official parts: 270 to train on,
370 to test on. A third of the training part chose the recipe; a tenth of it chooses the weights.
"""

from common import Row, parsed, percent, report, tested, train

RECIPE = "--hidden 128 --pooling mean --dropout 0.5 --batch-size 16 --epochs 20"


def main() -> None:
    """Train once for each seed, print the table."""
    options = parsed("japanese_vowels", __doc__)
    folder = options.data / "series"
    files = [folder / "JapaneseVowels_TRAIN.ts", "--test", folder / "JapaneseVowels_TEST.ts"]
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
    report(options, "Japanese vowels, test", [row], [t.seconds for t in done])


if __name__ == "__main__":
    main()
