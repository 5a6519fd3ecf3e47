"""Sentiment of movie-review sentences (Pang & Lee 2005), ten folds as in Kim 2014.

    python benchmarks/tables/mr.py --data ../shared/data

Words are learnt from the data alone. The baseline is multinomial naive Bayes on the same folds.
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from common import Row, parsed, percent, report
from folds import Example, cross_validated

RECIPE = (
    "--tokenizer token --min-count 2 --hidden 64 --embedding 64 --pooling mean --dropout 0.5 "
    "--word-dropout 0.1 --learning-rate 0.01 --ema-decay 0.99 --batch-size 50 --epochs 5"
)


def sentences(folder: Path) -> list[Example]:
    """5,331 sentences of each kind."""
    return [
        (line.strip(), label)
        for label in ("neg", "pos")
        for line in (folder / f"rt-polarity.{label}").read_text("latin-1").split("\n")
        if line.strip()
    ]


def naive_bayes(train: Sequence[Example], test: Sequence[Example]) -> float:
    """Accuracy of multinomial naive Bayes over single words, with one added to each count."""
    counts: dict[str, Counter[str]] = {"neg": Counter(), "pos": Counter()}
    for text, label in train:
        counts[label].update(text.split())
    kinds = len(counts["neg"].keys() | counts["pos"].keys())
    prior = Counter(label for _, label in train)

    def score(words: list[str], label: str) -> float:
        total = counts[label].total() + kinds
        return math.log(prior[label]) + sum(
            math.log((counts[label][word] + 1) / total) for word in words
        )

    right = sum(max(counts, key=lambda k: score(text.split(), k)) == label for text, label in test)
    return right / len(test)


def main() -> None:
    """Ten trainings for each seed, which also draws the folds; print the table."""
    options = parsed("mr", __doc__, seeds=(0,))
    found = cross_validated(options, sentences(options.data / "mr"), RECIPE, naive_bayes)
    beside = f"{percent(statistics.mean(found.baselines))} (naive Bayes, same folds)"
    row = Row("accuracy", found.means, "75.1 (LSTM)", beside, percent=True)
    report(options, "MR, sentiment, ten folds", [row], found.seconds, found.note)


if __name__ == "__main__":
    main()
