"""A sequence in, a tag for each of its steps out."""

from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.errors import OptionError, require_positive
from elman.layers.dropout import Dropout
from elman.layers.pooling import Pooling
from elman.models.common.evaluation import evaluating
from elman.models.common.input_encoder import InputEncoder, InputEncoderOptions
from elman.models.common.loss import Loss
from elman.models.common.targets import checked_ids, checked_numbers, inside
from elman.models.text.crf import CRF

#: No tag can be this one, so no tag is left out by mistake.
PADDING = torch.iinfo(torch.int64).min


class Tagger(nn.Module):
    """A tag for each step of a sequence, and a label for the whole where one is wanted.

        h_1 ... h_n = reader(x_1 ... x_n)                      bidirectional where not said
        P_t = V dropout(h_t) + b                               emissions
        P_t = V dropout(h_t) + U dropout(c) + b                global_context
        p(y_t = k | x) = softmax(P_t)_k                        or, with crf, p(y | x) of `CRF`
        p(y_tk is on | x) = sigmoid(P_tk)                      multi_label: several at one step
        p(label | x) = softmax(V' dropout(c) + b')             num_labels
        c = pooling(h_1 ... h_n)

    x: [T, B] ids where vocab_size is given, else [T, B, input_size]
    lengths: [B], 0 ... T, in any order, None where all are T
    characters, word_lengths: see `elman.models.common.words.CharacterEncoder`.
    crf: with forbidden_transitions and forbidden_starts, see `CRF`.
    global_context: each step's tag is told of the whole sequence.
    pooling: for c, see `elman.layers.Pooling`. label_weight: of the label's loss.
    options: see `elman.models.common.input_encoder.InputEncoder`; dropout acts on h_t and c too.

    What stands in the padding changes nothing. Raises OptionError, ShapeError.

    Sources: Graves & Schmidhuber 2005 (bidirectional LSTM); Huang, Xu & Yu 2015 (with a CRF);
    Lample et al. 2016 (characters); Liu & Lane 2016, Attention-Based Recurrent Neural Network
    Models for Joint Intent Detection and Slot Filling (a label too); Liu et al. 2019, GCDT: A
    Global Context Enhanced Deep Transition Architecture for Sequence Labeling (the mean of a
    sequence beside each step, there at the input).
    """

    def __init__(
        self,
        num_tags: int,
        *,
        crf: bool = False,
        forbidden_transitions: Tensor | None = None,
        forbidden_starts: Tensor | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weight: float = 1.0,
        global_context: bool = False,
        pooling: str = "last",
        **options: Unpack[InputEncoderOptions],
    ) -> None:
        super().__init__()
        require_positive(num_tags=num_tags)
        _check(crf, multi_label, label_weight, forbidden_transitions, forbidden_starts)
        options.setdefault("bidirectional", True)
        self.multi_label, self.label_weight = multi_label, label_weight
        self.reader = InputEncoder(**options)
        self.dropout = Dropout(options.get("dropout", 0.0))
        self.output = nn.Linear(self.reader.output_size, num_tags)
        self.crf: CRF | None = None
        if crf:
            self.crf = CRF(
                num_tags,
                forbidden_transitions=forbidden_transitions,
                forbidden_starts=forbidden_starts,
            )
        self.pooling: Pooling | None = None
        if global_context or num_labels is not None:
            self.pooling = Pooling.of(self.reader.encoder.stack, pooling)
        self.context_output: nn.Linear | None = None
        if global_context:
            self.context_output = nn.Linear(self.reader.output_size, num_tags, bias=False)
        self.label_output: nn.Linear | None = None
        if num_labels is not None:
            require_positive(num_labels=num_labels)
            self.label_output = nn.Linear(self.reader.output_size, num_labels)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        characters: Tensor | None = None,
        word_lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Emissions [T, B, num_tags], with h_t = 0 past the end; the label's [B, num_labels]."""
        hidden = self.reader(x, lengths, characters, word_lengths)
        emissions = self.output(self.dropout(hidden))
        if self.pooling is None:
            return emissions, None
        context = self.pooling(hidden, lengths)
        if self.context_output is not None:
            emissions = emissions + self.context_output(self.dropout(context))
        if self.label_output is None:
            return emissions, None
        return emissions, self.label_output(self.dropout(context))

    def loss(
        self,
        x: Tensor,
        x_lengths: Tensor | None,
        tags: Tensor,
        label: Tensor | None = None,
        characters: Tensor | None = None,
        word_lengths: Tensor | None = None,
    ) -> Loss:
        """The negative log likelihood in nats of tags and label; the count of valid steps.

            total = sum_b (-log p(y_b | x_b) - label_weight log p(label_b | x_b))

        tags: [T, B] ids; for multi_label [T, B, num_tags], 0 or 1, whose nats are summed too.
        label: [B] ids, where num_labels was given. With label_weight = 1 the mean is what it
        costs, per step, to say tags and label; each sequence says its label once.
        """
        if (label is None) != (self.label_output is None):
            raise OptionError("a model built with num_labels needs a label, and no other does")
        emissions, logits = self(x, x_lengths, characters, word_lengths)
        valid = inside(x_lengths, emissions)
        total = self._tags_loss(emissions, tags, valid, x_lengths)
        if label is not None and logits is not None:
            label = checked_ids("label", label, logits.shape[1], logits.shape[:1])
            total = total + self.label_weight * F.cross_entropy(logits, label, reduction="sum")
        return Loss(total, valid.sum())

    def _tags_loss(
        self, emissions: Tensor, tags: Tensor, valid: Tensor, lengths: Tensor | None
    ) -> Tensor:
        if self.multi_label:
            on = torch.where(valid[..., None], checked_numbers("tags", tags, emissions), 0.0)
            nats = F.binary_cross_entropy_with_logits(emissions, on, reduction="none")
            return torch.where(valid[..., None], nats, 0.0).sum()
        if self.crf is not None:
            return -self.crf.log_likelihood(emissions, tags, lengths).sum()
        tags = checked_ids("tags", tags, emissions.shape[-1], emissions.shape[:2], valid)
        tags = torch.where(valid, tags, PADDING)
        return F.cross_entropy(
            emissions.flatten(0, 1), tags.flatten(), ignore_index=PADDING, reduction="sum"
        )

    def decode(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        characters: Tensor | None = None,
        word_lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The most likely tags [T, B], 0 past the end, and label [B] or None; in evaluation mode.

        With crf the most likely sequence of tags as a whole, else the most likely tag of each
        step; for multi_label [T, B, num_tags] bool, what is more likely on than off.
        """
        with evaluating(self):
            emissions, logits = self(x, lengths, characters, word_lengths)
            label = None if logits is None else logits.argmax(dim=-1)
            if self.crf is not None:
                return self.crf.decode(emissions, lengths), label
            valid = inside(lengths, emissions)
            if self.multi_label:
                return (emissions > 0) & valid[..., None], label
            return torch.where(valid, emissions.argmax(dim=-1), 0), label

    def probabilities(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        characters: Tensor | None = None,
        word_lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """p of each tag at each step [T, B, num_tags], 0 past the end; of each label, or None.

        With crf the marginals. In evaluation mode and without gradient.
        """
        with evaluating(self):
            emissions, logits = self(x, lengths, characters, word_lengths)
            label = None if logits is None else logits.softmax(dim=-1)
            if self.crf is not None:
                return self.crf.marginals(emissions, lengths), label
            valid = inside(lengths, emissions)[..., None]
            found = emissions.sigmoid() if self.multi_label else emissions.softmax(dim=-1)
            return torch.where(valid, found, 0.0), label


def _check(crf: bool, multi_label: bool, label_weight: float, *rules: Tensor | None) -> None:
    if crf and multi_label:
        raise OptionError("crf: a path has one tag at each step; use multi_label without crf")
    if not crf and any(rule is not None for rule in rules):
        raise OptionError("forbidden_transitions and forbidden_starts are rules of a CRF; set crf")
    if not 0 <= label_weight < torch.inf:
        raise OptionError(f"label_weight must be 0 or above, got {label_weight}")
