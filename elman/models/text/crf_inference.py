"""The recursions of a linear chain: all paths, each step's share of them, and the best path.

Everywhere: emissions [T, B, K] with T > 0 and finite in the padding too, transitions [K, K] of
tag i followed by tag j, start and end [K], valid [T, B] bool. -inf forbids.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Scores that are further apart, in nats, are added as logarithms.
RANGE = 300.0


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
        return log_z.to(emissions.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_log_z: Tensor) -> Any:
        emissions, transitions, end, valid, alpha, log_z = ctx.saved_tensors
        last = torch.where(valid[0, :, None], (alpha[-1] + end - log_z[:, None]).exp(), 0.0)
        last = last * d_log_z[:, None]
        d_emissions, d_transitions = smoothed(emissions, transitions, alpha, last, valid)
        found = (d_emissions, d_transitions, d_emissions[0].sum(dim=0), last.sum(dim=0))
        return *(d.to(emissions.dtype) for d in found), None


def forward_scores(emissions: Tensor, transitions: Tensor, start: Tensor, valid: Tensor) -> Tensor:
    """alpha [T, B, K]: all paths up to step t that end in j there; past the end the last one.

        alpha_t = P_t + m + log(exp(alpha_{t-1} - m) exp(A)),   m = max_i alpha_{t-1}(i)

    A product of matrices in float64, in which the result stays; where that is too coarse (see
    `RANGE`) or the device has no float64, logarithms are added.
    """
    emissions, transitions = _wide(emissions), _wide(transitions)
    weights = transitions.exp()

    def from_all(alpha: Tensor) -> Tensor:
        most = alpha.amax(dim=-1, keepdim=True)
        return most + ((alpha - most).exp() @ weights).log()

    alpha = _onward(emissions, start + emissions[0], valid, from_all)
    if _in_range(alpha, transitions):
        return alpha
    into = transitions.T.contiguous()
    return _onward(
        emissions,
        start + emissions[0],
        valid,
        lambda alpha: torch.logsumexp(alpha[:, None] + into, dim=-1),
    )


def _onward(
    emissions: Tensor, alpha: Tensor, valid: Tensor, from_all: Callable[[Tensor], Tensor]
) -> Tensor:
    found = [alpha]
    for e, inside in zip(emissions[1:].unbind(), valid[1:, :, None].unbind(), strict=True):
        alpha = torch.where(inside, from_all(alpha) + e, alpha)
        found.append(alpha)
    return torch.stack(found)


def _wide(x: Tensor) -> Tensor:
    return x if x.device.type == "mps" else x.double()


def _in_range(alpha: Tensor, transitions: Tensor) -> bool:
    """Whether no sum of exp(alpha - m) exp(A) is too small for float64, which ends at e^-708."""
    if alpha.dtype != torch.float64:
        return False
    apart = alpha.amax(dim=-1) - alpha.where(alpha > -torch.inf, torch.inf).amin(dim=-1)
    allowed = transitions[transitions > -torch.inf]
    return bool((apart < RANGE).all() & (allowed.abs() < RANGE).all())


def smoothed(
    emissions: Tensor, transitions: Tensor, alpha: Tensor, last: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """p(y_t = j) [T, B, K], 0 past the end, and how often i is followed by j [K, K].

        p(y_n = j) = exp(alpha_n(j) + end(j)) / Z
        p(y_{t-1} = i, y_t = j) = p(y_t = j) exp(alpha_{t-1}(i) + A(i, j) + P_t(j) - alpha_t(j))

    alpha: see `forward_scores`; the results have its dtype. last: [B, K] p(y_n = j), 0 where there
    is no step. Both results are linear in it: times a weight of each sequence they are weighted.
    """
    transitions, p = _wide(transitions), _wide(last)
    counts, found = torch.zeros_like(transitions), [p]
    # What no path reaches comes from nowhere: 0, not -inf + inf.
    reached = valid[..., None] & (alpha > -torch.inf)
    from_all = torch.where(reached, emissions - alpha, -torch.inf)
    weights = transitions.exp() if _in_range(alpha, transitions) else None
    for t in range(len(emissions) - 1, 0, -1):
        if weights is not None:
            most = alpha[t - 1].amax(dim=-1, keepdim=True)
            before, after = (alpha[t - 1] - most).exp(), p * (from_all[t] + most).exp()
            counts += before.T @ after
            before *= after @ weights.T
        else:
            both = alpha[t - 1][:, :, None] + transitions + from_all[t][:, None]
            both = both.exp_().mul_(p[:, None])
            counts += both.sum(dim=0)
            before = both.sum(dim=-1)
        p = torch.where(valid[t, :, None], before, p)
        found.append(p)
    if weights is not None:
        counts *= weights
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
