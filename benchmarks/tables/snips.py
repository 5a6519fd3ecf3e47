"""Slots and intents of SNIPS: one bidirectional LSTM with a CRF for the slots, a label on top.

    python benchmarks/tables/snips.py --data ../shared/data

Split of Goo et al. 2018: 13,084 / 700 / 700 sentences. The validation part chooses the weights (by
whole frames); the test part is read once.
"""

from common import Row, parsed, percent, report, tested, train

RECIPE = (
    "--min-count 2 --hidden 200 --embedding 200 --crf --dropout 0.5 --word-dropout 0.05 "
    "--global-context --learning-rate 0.002 --average 0.999 --batch-size 32 --epochs 20"
)
SOURCE = "slot-gated BiLSTM, Goo et al. 2018"
#: Name of the score, of the row, published, a better baseline than elman's own where one is known.
SCORES = (
    ("span_f1", "slot F1", "88.8", ""),
    ("label_accuracy", "intent", "97.0", "97.3 (bag of words)"),
    ("frame_accuracy", "whole frame", "75.5", ""),
)


def main() -> None:
    """Train once for each seed, print the table."""
    options = parsed("snips", __doc__)
    folder = options.data / "snips"
    files = [folder / "train", "--valid", folder / "valid", "--test", folder / "test"]
    done = [train(options, "tag", files, RECIPE, f"seed{seed}", seed) for seed in options.seeds]
    beside = tested(done[0])["baseline"]
    rows = [
        Row(
            name,
            [tested(t)[score] for t in done],
            f"{published} ({SOURCE})",
            baseline or f"{percent(beside[score])} ({beside['name']})",
            percent=True,
        )
        for score, name, published, baseline in SCORES
    ]
    report(options, "SNIPS, slots and intent, test", rows, [t.seconds for t in done])


if __name__ == "__main__":
    main()
