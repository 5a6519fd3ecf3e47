"""The loop that writes: one step for all unfinished sequences of all sentences at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elman.errors import OptionError, ShapeError, require_positive
from elman.models.common.sampling import require_finite, sample
from elman.models.decoding.choose import best_continuations
from elman.models.decoding.options import Decoding, Hypothesis
from elman.models.decoding.rows import Rows, Select, first_tokens, select_rows
from elman.models.decoding.rules import Rules
from elman.models.decoding.trail import Trail

#: tokens [N], state -> logits [N, V], state and, where there is attention, its weights [N, S]
Step = Callable[[Tensor, Any], tuple[Tensor, Any] | tuple[Tensor, Any, Tensor | None]]


@torch.inference_mode()
def decode(
    step: Step,
    state: Any,
    *,
    batch_size: int,
    start: int | Tensor,
    end: int | None = None,
    decoding: Decoding | None = None,
    prefix: Tensor | None = None,
    prefix_lengths: Tensor | Sequence[int] | None = None,
    exclude: Sequence[int] = (),
    source_lengths: Tensor | Sequence[int] | None = None,
    generator: torch.Generator | None = None,
    select: Select = select_rows,
) -> list[list[Hypothesis]]:
    """The n_best sequences of each of B sentences, the best score first.

    step: one step of N rows, tokens [N] and state -> logits [N, V], state, and attention weights
        [N, S] where there are any. N changes with the number of unfinished sequences.
    state: of B rows. What belongs to a sentence, such as an encoder's outputs, is part of it.
    start: the token before the first, one for all or [B] on the step's device; a number goes to
        the device of the state's first tensor.
    end: the token that ends a sequence. decoding: greedy where not given.
    prefix, prefix_lengths: [P, B] tokens that are written first, and how many of them, [B].
    exclude: ids that are never written, except in a prefix.
    source_lengths: [B], how many source positions count; all S where not given.
    generator: of what is drawn, on the step's device.
    select: rows of the state, where their axis is not the first.

    In each step a sentence keeps its ``beams`` likeliest continuations; those that end leave the
    beam (Sutskever et al. 2014). It is done when no unfinished sequence can come to a better score
    than its n_best finished ones have. The model runs in the mode it is in; call eval() before.

    Raises OptionError, among them where fewer than n_best sequences are found, ShapeError, and
    RunError for logits that are not finite.
    """
    require_positive(batch_size=batch_size)
    decoding = Decoding() if decoding is None else decoding
    rules = Rules(decoding, end, exclude, prefix, prefix_lengths, batch_size)
    last = first_tokens(start, batch_size, state)
    rows = Rows.of(torch.arange(batch_size), last, keep_history=decoding.no_repeat_ngram > 0)
    search = _Search(step, select, rules, rows, state, generator)
    search.source_lengths = _checked_sources(source_lengths, batch_size)
    if decoding.draws:
        copies = torch.arange(batch_size).repeat_interleave(decoding.n_best)
        search.select_state(copies)
        search.rows = rows.select(copies)
    while len(search.rows):
        search.advance()
    return search.hypotheses()


@dataclass(frozen=True)
class _Finished:
    score: float
    log_probability: float
    length: int
    place: int
    ended: bool


class _Search:
    """The unfinished sequences, their state, and the finished ones of each sentence."""

    def __init__(
        self,
        step: Step,
        select: Select,
        rules: Rules,
        rows: Rows,
        state: Any,
        generator: torch.Generator | None,
    ) -> None:
        self.step, self.select, self.generator = step, select, generator
        self.rules, self.decoding = rules, rules.decoding
        self.rows, self.state = rows, state
        self.source_lengths: Tensor | None = None
        self.trail = Trail()
        self.finished: list[list[_Finished]] = [[] for _ in range(len(rows))]
        self.vocab_size = 0

    def advance(self) -> None:
        """Write one token more in every unfinished sequence."""
        log_p, attention = self._predict()
        log_p = self.rules.apply(log_p, len(self.trail), self.rows.sentences, self.rows.history)
        parents, tokens = self._choose(log_p)
        there = parents.to(log_p.device)
        gained = log_p[there, tokens.to(log_p.device)].cpu().double()
        attention = None if attention is None else attention[there]
        self.trail.append(self.rows.places[parents], tokens, gained, attention)
        grown = self.rows.select(parents).with_written(tokens, gained, attention)
        live = self._put_aside(grown)
        if len(live):
            self.select_state(parents[live])
        self.rows = grown.select(live)

    def select_state(self, rows: Tensor) -> None:
        """Bring the state of these rows into this order; copies nothing where it is so."""
        if self.state is not None and not torch.equal(rows, torch.arange(len(self.rows))):
            self.state = self.select(self.state, rows.to(self.rows.last.device))

    def _predict(self) -> tuple[Tensor, Tensor | None]:
        """Log probabilities [N, V] and attention [N, S] of the next token; the state moves on."""
        logits, self.state, *more = self.step(self.rows.last, self.state)
        attention = more[0] if more else None
        for name, result in (("logits", logits), ("attention", attention)):
            if result is not None and (result.dim() != 2 or len(result) != len(self.rows)):
                raise ShapeError(
                    f"step: {name} must be [N, ...] with N={len(self.rows)} and two axes, got "
                    f"{list(result.shape)}"
                )
        if attention is None and self.decoding.coverage_penalty:
            raise OptionError(
                "coverage_penalty needs attention, and this model's step returns none; set it to 0"
            )
        if not self.vocab_size:
            self.vocab_size = logits.shape[1]
            self.rules.check(self.vocab_size)
        require_finite(logits)
        # Single precision: over a large vocabulary double costs ten times as much. Sums are double.
        exact = torch.float64 if logits.dtype == torch.float64 else torch.float32
        return logits.log_softmax(dim=1, dtype=exact), attention

    def _choose(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [M] to go on with and the token of each [M], by sentence, on the CPU."""
        rows = self.rows
        if not self.decoding.draws:
            so_far, beams = rows.log_probability, self.decoding.beams
            return best_continuations(log_p, so_far, rows.sentences, beams)
        stuck = (log_p.amax(dim=1) == -torch.inf).cpu()
        if stuck.any():
            raise self._too_few(int(rows.sentences[stuck][0]))
        options = self.decoding
        drawn = sample(log_p, options.temperature, options.top_k, options.top_p, self.generator)
        return torch.arange(len(rows)), drawn.cpu()

    def _put_aside(self, rows: Rows) -> Tensor:
        """Note the finished ones; which of the others to go on with."""
        length, end = len(self.trail), self.rules.end
        unfinished: dict[int, list[int]] = {}
        sentences, coverage = rows.sentences.tolist(), self._coverage(rows)
        log_p, tokens = rows.log_probability.tolist(), rows.last.tolist()
        for place, sentence in enumerate(sentences):
            ended = tokens[place] == end
            if ended or length == self.decoding.max_length:
                score = self.decoding.score(log_p[place], length, coverage[place])
                found = _Finished(score, log_p[place], length, place, ended)
                self.finished[sentence].append(found)
            else:
                unfinished.setdefault(sentence, []).append(place)
        live = []
        for sentence, places in unfinished.items():
            if self._can_improve(sentence, max(log_p[place] for place in places)):
                live += places
        return torch.tensor(live, dtype=torch.long)

    def _can_improve(self, sentence: int, log_probability: float) -> bool:
        """Whether an unfinished sequence so likely may yet come among the n_best finished ones."""
        kept = self.finished[sentence]
        kept.sort(key=lambda one: -one.score)
        del kept[self.decoding.n_best :]
        full = len(kept) == self.decoding.n_best
        return not full or self.decoding.bound(log_probability) > kept[-1].score

    def _coverage(self, rows: Rows) -> list[float]:
        """Of each row sum_i log min(sum_j p_ij, 1) over the positions of its source."""
        if rows.coverage is None or not self.decoding.coverage_penalty:
            return [0.0] * len(rows)
        # A position that was never looked at counts as the smallest number, not as -inf, by
        # which all sequences would be equally bad.
        logs = rows.coverage.clamp(torch.finfo(torch.float32).tiny, 1).log()
        if self.source_lengths is not None:
            lengths = self.source_lengths[rows.sentences].to(logs.device)
            padding = torch.arange(logs.shape[1], device=logs.device) >= lengths[:, None]
            logs = logs.masked_fill(padding, 0)
        return logs.sum(dim=1).tolist()

    def hypotheses(self) -> list[list[Hypothesis]]:
        """What was found, the best first; of equals what was found first."""
        found = []
        for sentence, finished in enumerate(self.finished):
            finished.sort(key=lambda one: -one.score)
            if len(finished) < self.decoding.n_best:
                raise self._too_few(sentence)
            found.append([self._read(sentence, x) for x in finished[: self.decoding.n_best]])
        return found

    def _read(self, sentence: int, found: _Finished) -> Hypothesis:
        tokens, log_p, attended = self.trail.read(found.length, found.place)
        attention = torch.stack(attended).cpu() if attended else None
        if attention is not None and self.source_lengths is not None:
            attention = attention[:, : int(self.source_lengths[sentence])]
        return Hypothesis(tokens, found.score, found.log_probability, log_p, found.ended, attention)

    def _too_few(self, sentence: int) -> OptionError:
        return OptionError(
            f"n_best is {self.decoding.n_best}, but sentence {sentence} has only "
            f"{len(self.finished[sentence])} sequences that can be written with "
            f"{self.rules.describe(self.vocab_size)}; lower n_best or loosen one of these"
        )


def _checked_sources(lengths: Tensor | Sequence[int] | None, batch_size: int) -> Tensor | None:
    if lengths is None:
        return None
    lengths = torch.as_tensor(lengths).cpu()
    if lengths.shape != (batch_size,) or (lengths < 0).any():
        raise ShapeError(
            f"source_lengths must be {batch_size} numbers of 0 or above, got {lengths.tolist()}"
        )
    return lengths
