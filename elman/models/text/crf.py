"""A conditional random field over the tags of a sequence."""

import torch
from torch import Tensor, nn

from elman.errors import DataError, OptionError, ShapeError, require_positive
from elman.models.common.targets import checked_ids, inside
from elman.models.text import crf_inference


class CRF(nn.Module):
    """How likely whole sequences of tags are: a linear chain.

        s(y) = start(y_1) + sum_t P_t(y_t) + sum_{t > 1} A(y_{t-1}, y_t) + end(y_n)
        p(y) = exp s(y) / sum_y' exp s(y')

    emissions: P [T, B, K], scores of the K tags at each step   tags: [T, B] ids
    lengths: [B], 0 ... T, in any order, None where all are T
    forbidden_transitions: [K, K] bool, tag i may not be followed by tag j. forbidden_starts: [K]
        bool, no sequence begins with the tag. See `elman.models.text.spans.forbidden_by_bio`.

    A sequence of length 0 has one path, of probability 1. What stands in the padding changes
    nothing. Computes in float32 or above.

    Raises OptionError where a tag can be followed by none or nothing can begin, and ShapeError.

    Sources: Lafferty, McCallum & Pereira 2001, Conditional Random Fields, section 3; Lample et
    al. 2016, Neural Architectures for Named Entity Recognition, section 2.2.
    """

    forbidden_transitions: Tensor | None
    forbidden_starts: Tensor | None

    def __init__(
        self,
        num_tags: int,
        *,
        forbidden_transitions: Tensor | None = None,
        forbidden_starts: Tensor | None = None,
    ) -> None:
        super().__init__()
        require_positive(num_tags=num_tags)
        self.num_tags = num_tags
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags).uniform_(-0.1, 0.1))
        self.start = nn.Parameter(torch.empty(num_tags).uniform_(-0.1, 0.1))
        self.end = nn.Parameter(torch.empty(num_tags).uniform_(-0.1, 0.1))
        rules = {
            "forbidden_transitions": (forbidden_transitions, [num_tags, num_tags]),
            "forbidden_starts": (forbidden_starts, [num_tags]),
        }
        for name, (rule, shape) in rules.items():
            self.register_buffer(name, _checked_rule(name, rule, shape), persistent=False)

    def log_likelihood(
        self, emissions: Tensor, tags: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        """log p(tags) in nats: [B].

        The gradient can be taken once. Raises DataError where tags are forbidden.
        """
        emissions, valid = self._checked(emissions, lengths)
        tags = checked_ids("tags", tags, self.num_tags, emissions.shape[:2], valid)
        if not len(emissions):
            # A step of padding, so that every parameter has a gradient, of 0.
            padded = [
                torch.cat((x, x.new_zeros(1, *x.shape[1:]))) for x in (emissions, tags, valid)
            ]
            emissions, tags, valid = padded
        self._check_allowed(tags, valid)
        scores = self._scores(emissions.dtype)
        log_z: Tensor = crf_inference.LogPartition.apply(emissions, *scores, valid)  # type: ignore[no-untyped-call]
        return self._score(emissions, tags, valid) - log_z

    def marginals(self, emissions: Tensor, lengths: Tensor | None = None) -> Tensor:
        """p(y_t = k) by the forward-backward algorithm: [T, B, K], 0 past the end; no gradient."""
        emissions, valid = self._checked(emissions.detach(), lengths)
        if not len(emissions):
            return emissions
        with torch.no_grad():
            transitions, start, end = self._scores(emissions.dtype)
            alpha = crf_inference.forward_scores(emissions, transitions, start, valid)
            last = torch.where(valid[0, :, None], (alpha[-1] + end).softmax(dim=-1), 0.0)
            found, _ = crf_inference.smoothed(emissions, transitions, alpha, last, valid)
            return found.to(emissions.dtype)

    def decode(self, emissions: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The most likely tags by the Viterbi algorithm: [T, B] ids, 0 past the end."""
        emissions, valid = self._checked(emissions.detach(), lengths)
        if not len(emissions):
            return valid.long()
        with torch.no_grad():
            return crf_inference.best_paths(emissions, *self._scores(emissions.dtype), valid)

    def _checked(self, emissions: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Emissions in enough precision and 0 in the padding; which steps are no padding."""
        if emissions.dim() != 3 or emissions.shape[-1] != self.num_tags:
            raise ShapeError(
                f"CRF: emissions must be [T, B, {self.num_tags}], got {list(emissions.shape)}"
            )
        dtype = torch.promote_types(emissions.dtype, torch.float32)
        valid = inside(lengths, emissions)
        return torch.where(valid[..., None], emissions.to(dtype), 0.0), valid

    def _scores(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """transitions, start and end, with -inf for what is forbidden."""
        transitions, start = self.transitions.to(dtype), self.start.to(dtype)
        if self.forbidden_transitions is not None:
            transitions = transitions.masked_fill(self.forbidden_transitions, -torch.inf)
        if self.forbidden_starts is not None:
            start = start.masked_fill(self.forbidden_starts, -torch.inf)
        return transitions, start, self.end.to(dtype)

    def _score(self, emissions: Tensor, tags: Tensor, valid: Tensor) -> Tensor:
        """s(tags): [B]."""
        steps = emissions.gather(2, tags[..., None])[..., 0]
        steps = torch.cat((self.start[tags[:1]] + steps[:1], steps[1:] + self._pairs(tags)))
        last = (valid.sum(dim=0) - 1).clamp(min=0)
        end = self.end[tags.gather(0, last[None])[0]]
        return torch.where(valid, steps, 0.0).sum(dim=0) + torch.where(valid[0], end, 0.0)

    def _pairs(self, tags: Tensor) -> Tensor:
        return self.transitions.flatten()[tags[:-1] * self.num_tags + tags[1:]]

    def _check_allowed(self, tags: Tensor, valid: Tensor) -> None:
        if self.forbidden_starts is None and self.forbidden_transitions is None:
            return
        bad = torch.zeros_like(valid)
        if self.forbidden_starts is not None:
            bad[0] = self.forbidden_starts[tags[0]]
        if self.forbidden_transitions is not None:
            bad[1:] = self.forbidden_transitions[tags[:-1], tags[1:]]
        bad &= valid
        if bad.any():
            t, b = bad.nonzero()[0].tolist()
            after = f"after tag {int(tags[t - 1, b])}" if t else "at the start"
            raise DataError(
                f"tags[{t}, {b}] is {int(tags[t, b])} {after}, which is forbidden; correct the "
                "tags, or build the CRF without that rule"
            )


def _checked_rule(name: str, rule: Tensor | None, shape: list[int]) -> Tensor | None:
    if rule is None:
        return None
    if rule.dtype is not torch.bool or list(rule.shape) != shape:
        raise ShapeError(f"{name} must be bool {shape}, got {rule.dtype} {list(rule.shape)}")
    if rule.all(dim=-1).any():
        raise OptionError(f"{name}: where every tag is forbidden no sequence is possible")
    return rule.clone()
