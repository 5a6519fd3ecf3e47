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
    # Which of equal values topk takes is not defined, so it only says how good the worst one is.
    worst = scores.topk(k, dim=1).values[:, -1:]
    better, equal = scores > worst, scores == worst
    room = k - better.sum(dim=1, keepdim=True)
    chosen = better | (equal & (equal.cumsum(dim=1) <= room))
    ids = chosen.nonzero()[:, 1].view(-1, k)
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
    totals = (values.cpu() + so_far[:, None]).flatten()
    rows = torch.arange(len(log_p)).repeat_interleave(tokens.shape[1])
    order = totals.argsort(descending=True, stable=True)
    order = order[sentences[rows[order]].argsort(stable=True)]
    group = sentences[rows[order]]
    rank = torch.arange(len(order)) - torch.searchsorted(group, group)
    order = order[(rank < beams) & (totals[order] > -torch.inf)]
    return rows[order], tokens.flatten().cpu()[order]
