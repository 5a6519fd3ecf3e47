"""The recursions of a linear chain: all paths, each step's share of them, and the best path.

Everywhere: emissions [T, B, K] with T > 0 and finite in the padding too, transitions [K, K] of
tag i followed by tag j, start and end [K], valid [T, B] bool. -inf forbids.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class LogPartition(torch.autograd.Function):
    """log sum_y exp s(y) over all paths y of each sequence: [B].

        alpha_1 = start + P_1,   alpha_t(j) = P_t(j) + log sum_i exp(alpha_{t-1}(i) + A(i, j))
        log Z = log sum_j exp(alpha_n(j) + end(j))

    A sequence without a step has one path, of score 0. The gradient is the probability of what
    it is taken of, see `smoothed`; so no step leaves a trace for autograd, and a score of -inf
    gives 0, where autograd through the recursion would give NaN.
    """

    @staticmethod
    def forward(
        ctx: Any, emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, valid: Tensor
    ) -> Tensor:
        alpha = forward_scores(emissions, transitions, start, valid)
        log_z = torch.where(valid[0], torch.logsumexp(alpha[-1] + end, dim=-1), 0.0)
        ctx.save_for_backward(emissions, transitions, end, valid, alpha, log_z)
        return log_z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_log_z: Tensor) -> Any:
        emissions, transitions, end, valid, alpha, log_z = ctx.saved_tensors
        last = torch.where(valid[0, :, None], (alpha[-1] + end - log_z[:, None]).exp(), 0.0)
        last = last * d_log_z[:, None]
        d_emissions, d_transitions = smoothed(emissions, transitions, alpha, last, valid)
        return d_emissions, d_transitions, d_emissions[0].sum(dim=0), last.sum(dim=0), None


def forward_scores(emissions: Tensor, transitions: Tensor, start: Tensor, valid: Tensor) -> Tensor:
    """alpha [T, B, K]: all paths up to step t that end in j there; past the end the last one."""
    into = transitions.T.contiguous()
    alpha = start + emissions[0]
    found = [alpha]
    for e, inside in zip(emissions[1:].unbind(), valid[1:, :, None].unbind(), strict=True):
        onward = torch.logsumexp(alpha[:, None] + into, dim=-1) + e
        alpha = torch.where(inside, onward, alpha)
        found.append(alpha)
    return torch.stack(found)


def smoothed(
    emissions: Tensor, transitions: Tensor, alpha: Tensor, last: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """p(y_t = j) [T, B, K], 0 past the end, and how often i is followed by j [K, K].

        p(y_n = j) = exp(alpha_n(j) + end(j)) / Z
        p(y_{t-1} = i, y_t = j) = p(y_t = j) exp(alpha_{t-1}(i) + A(i, j) + P_t(j) - alpha_t(j))

    alpha: see `forward_scores`. last: [B, K] p(y_n = j), 0 where there is no step. Both results
    are linear in it: times a weight of each sequence they are weighted.
    """
    counts, p, found = torch.zeros_like(transitions), last, [last]
    # What no path reaches comes from nowhere: 0, not -inf + inf.
    reached = valid[..., None] & (alpha > -torch.inf)
    from_all = torch.where(reached, emissions - alpha, -torch.inf)
    for t in range(len(emissions) - 1, 0, -1):
        share = alpha[t - 1][:, :, None] + transitions
        both = share.add_(from_all[t][:, None]).exp_().mul_(p[:, None])
        counts += both.sum(dim=0)
        p = torch.where(valid[t, :, None], both.sum(dim=-1), p)
        found.append(p)
    return torch.where(valid[..., None], torch.stack(found[::-1]), 0.0), counts


def best_paths(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, valid: Tensor
) -> Tensor:
    """The path of the highest score [T, B], 0 past the end (Viterbi 1967)."""
    into = transitions.T.contiguous()
    stay = torch.arange(emissions.shape[-1], device=emissions.device)
    best = start + emissions[0]
    pointers = []
    for e, inside in zip(emissions[1:].unbind(), valid[1:, :, None].unbind(), strict=True):
        onward, pointer = (best[:, None] + into).max(dim=-1)
        best = torch.where(inside, onward + e, best)
        pointers.append(torch.where(inside, pointer, stay))
    tag = (best + end).argmax(dim=-1, keepdim=True)
    path = [tag]
    for pointer in reversed(pointers):
        tag = pointer.gather(1, tag)
        path.append(tag)
    return torch.where(valid, torch.cat(path[::-1], dim=-1).T, 0)
