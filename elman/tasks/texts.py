"""How near texts are to the wanted ones."""

from collections.abc import Sequence


def text_scores(found: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """exact_match, the share that are the same; bleu, 0 to 100, by sacrebleu on what stands
    between spaces (tokenize=none); char_error_rate, edits for each character that was wanted.

    Source: Papineni et al. 2002; Post 2018.
    """
    from sacrebleu.metrics.bleu import BLEU
    from torchmetrics.functional.text import char_error_rate

    same = sum(f == w for f, w in zip(found, wanted, strict=True))
    bleu = BLEU(tokenize="none", force=True).corpus_score(list(found), [list(wanted)]).score
    return {
        "exact_match": same / max(len(wanted), 1),
        "bleu": float(bleu),
        "char_error_rate": float(char_error_rate(list(found), list(wanted))),
    }
