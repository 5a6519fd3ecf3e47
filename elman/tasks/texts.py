"""How near texts are to the wanted ones."""

from collections.abc import Sequence
from typing import Any


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
