"""How near texts are to the wanted ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def text_scores(found: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """exact_match, the share that are the same; char_error_rate, edits for each character that
    was wanted; and where texts have four words or more, as a rule, bleu, 0 to 100, by sacrebleu on
    what stands between spaces (tokenize=none).

    Source: Papineni et al. 2002; Post 2018.
    """
    from sacrebleu.metrics.bleu import BLEU
    from torchmetrics.functional.text import char_error_rate

    same = sum(f == w for f, w in zip(found, wanted, strict=True))
    scores = {
        "exact_match": same / max(len(wanted), 1),
        "char_error_rate": float(char_error_rate(list(found), list(wanted))),
    }
    if sum(len(text.split()) for text in wanted) >= 4 * len(wanted):
        bleu = BLEU(tokenize="none", force=True).corpus_score(list(found), [list(wanted)])
        scores["bleu"] = float(bleu.score)
    return scores


def caption_scores(found: Sequence[str], wanted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Texts beside all those that would have been right for each: exact_match, the share that are
    the same as one of them; bleu and bleu_1 (of single words), 0 to 100, by sacrebleu on what
    stands between spaces (tokenize=none).

    Source: Papineni et al. 2002; Post 2018.
    """
    from sacrebleu.metrics.bleu import BLEU

    same = sum(f in w for f, w in zip(found, wanted, strict=True))
    most = max(map(len, wanted), default=0)
    # None stands where a text has fewer references than another.
    references: list[Any] = [[w[k] if k < len(w) else None for w in wanted] for k in range(most)]
    scores = {"exact_match": same / max(len(wanted), 1)}
    for name, longest in (("bleu", 4), ("bleu_1", 1)):
        metric = BLEU(max_ngram_order=longest, tokenize="none", force=True)
        scores[name] = float(metric.corpus_score(list(found), references).score)
    return scores


def transcript_counts(found: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """Edits of characters and of words, how many were wanted, and how many texts are the same."""
    pairs = list(zip(found, wanted, strict=True))
    return {
        "characters_wrong": float(sum(edits(f, w) for f, w in pairs)),
        "characters": float(sum(len(w) for _, w in pairs)),
        "words_wrong": float(sum(edits(f.split(), w.split()) for f, w in pairs)),
        "words": float(sum(len(w.split()) for _, w in pairs)),
        "same": float(sum(f == w for f, w in pairs)),
        "texts": float(len(pairs)),
    }


def transcript_scores(sums: dict[str, float]) -> dict[str, float]:
    """char_error_rate and word_error_rate, edits for each that was wanted, and exact_match, of the
    sums of `transcript_counts`."""
    return {
        "char_error_rate": sums["characters_wrong"] / max(sums["characters"], 1),
        "word_error_rate": sums["words_wrong"] / max(sums["words"], 1),
        "exact_match": sums["same"] / max(sums["texts"], 1),
    }


def edits(found: Sequence[Any], wanted: Sequence[Any]) -> int:
    """The least insertions, deletions and replacements that turn one into the other.

    Source: Levenshtein 1966; by rows, Wagner & Fischer 1974.
    """
    if not found or not wanted:
        return len(found) + len(wanted)
    numbers = {unit: i for i, unit in enumerate({*found, *wanted})}
    ours, theirs = ([numbers[unit] for unit in units] for units in (found, wanted))
    places = np.arange(len(theirs) + 1)
    row, target = places, np.array(theirs)
    for i, unit in enumerate(ours, 1):
        changed = np.minimum(row[1:] + 1, row[:-1] + (target != unit))
        # Insertions run along the row: d_j = min over k <= j of changed_k + (j - k).
        row = np.minimum.accumulate(np.concatenate(([i], changed)) - places) + places
    return int(row[-1])
