"""How near texts are to the wanted ones."""

from collections.abc import Sequence


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
