"""Which of all continuations are followed."""

import torch
from torch import Tensor


def likeliest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of each row and their ids, in the order of ids; of equals the lowest ids.

    scores: [N, V]   ->   [N, k], [N, k]
    """
    if k == 1:
        ids = scores.argmax(dim=1, keepdim=True)
        return scores.gather(1, ids), ids
    best = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    worst = best.values[:, k - 1 : k]
    ids = best.indices[:, :k]
    # topk takes any of equal values, so where the next one is no worse the choice is made here.
    for row in (best.values[:, k:] == worst).any(dim=1).nonzero().flatten().tolist():
        better = (scores[row] > worst[row]).nonzero().flatten()
        equal = (scores[row] == worst[row]).nonzero().flatten()
        ids[row] = torch.cat((better, equal))[:k]
    ids = ids.sort(dim=1).values
    return scores.gather(1, ids), ids


def best_continuations(
    log_p: Tensor, so_far: Tensor, sentences: Tensor, beams: int
) -> tuple[Tensor, Tensor]:
    """The likeliest continuations of each sentence, at most ``beams``, and none impossible.

    log_p: [N, V]; so_far: [N], the log probability of each row; sentences: [N], ascending
      ->   rows [M], tokens [M] on the CPU: by sentence, in each the likeliest first; of equals
    the earlier row, then the lower id.
    """
    values, tokens = likeliest(log_p, min(beams, log_p.shape[1]))
    totals = (values.cpu().double() + so_far[:, None]).flatten()
    rows = torch.arange(len(log_p)).repeat_interleave(tokens.shape[1])
    order = totals.argsort(descending=True, stable=True)
    order = order[sentences[rows[order]].argsort(stable=True)]
    group = sentences[rows[order]]
    rank = torch.arange(len(order)) - torch.searchsorted(group, group)
    order = order[(rank < beams) & (totals[order] > -torch.inf)]
    return rows[order], tokens.flatten().cpu()[order]
