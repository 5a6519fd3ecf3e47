"""What is particular to words at the input: some are forgotten, and all have letters."""

from typing import Unpack

import torch
from torch import Tensor, nn

from elman.errors import OptionError, ShapeError, require_probability
from elman.layers.pooling import Pooling
from elman.models.common.encoder import Encoder, StackOptions


class WordDropout(nn.Module):
    """While training, a share of the tokens becomes the unknown one.

        w_t = unknown_id with probability rate, w_t otherwise       a new draw at every step

    tokens: ids of any shape   ->   the same
    vocab_size: None for a model that reads vectors, which has no unknown one.

    Raises OptionError. Source: Iyyer et al. 2015, Deep Unordered Composition Rivals Syntactic
    Methods for Text Classification, section 4.1, where the tokens are left out.
    """

    def __init__(self, rate: float, unknown_id: int | None, vocab_size: int | None) -> None:
        super().__init__()
        require_probability(word_dropout=rate)
        if rate and (vocab_size is None or unknown_id is None):
            raise OptionError(
                "word_dropout puts the unknown token in place of others: it needs vocab_size and "
                "unknown_id"
            )
        if unknown_id is not None and not 0 <= unknown_id < (vocab_size or 0):
            raise OptionError(
                f"unknown_id must be an id of the vocabulary, 0 ... {(vocab_size or 0) - 1}, got "
                f"{unknown_id}"
            )
        self.rate, self.unknown_id = rate, unknown_id

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens, or a share of them."""
        if not self.training or not self.rate:
            return tokens
        assert self.unknown_id is not None
        forgotten = torch.rand(tokens.shape, device=tokens.device) < self.rate
        return tokens.masked_fill(forgotten, self.unknown_id)

    def extra_repr(self) -> str:
        return f"{self.rate}, unknown_id={self.unknown_id}"


class CharacterEncoder(nn.Module):
    """A vector for each word, from its characters.

        forward_l, backward_l = encoder(c_1 ... c_L), bidirectional
        y = [forward_L, backward_1]

    characters: [C, B] ids of all words of a sequence, one word after another
    word_lengths: [T, B], how many of them each word has; 0 for what is no word
      ->   [T, B, 2 hidden_size], 0 for what is no word

    Only words are read, each by itself. Raises ShapeError where there are fewer characters than
    the words have.

    Source: Lample et al. 2016, Neural Architectures for Named Entity Recognition, section 4.1.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int = 25,
        hidden_size: int = 25,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        self.encoder = Encoder(
            vocab_size=vocab_size,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            bidirectional=True,
            **options,
        )
        self.pooling = Pooling.of(self.encoder.stack, "last")

    @property
    def output_size(self) -> int:
        """The size of a word's vector."""
        return self.encoder.output_size

    def forward(self, characters: Tensor, word_lengths: Tensor) -> Tensor:
        """[T, B, output_size]."""
        chosen = word_lengths.flatten().nonzero()[:, 0]
        words, lengths = _words(characters, word_lengths, chosen)
        outputs, _ = self.encoder(words, lengths)
        vectors = self.pooling(outputs, lengths)
        everywhere = vectors.new_zeros(word_lengths.numel(), self.output_size)
        return everywhere.index_copy(0, chosen, vectors).unflatten(0, word_lengths.shape)


def _words(characters: Tensor, word_lengths: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The characters [L, N] of the N chosen words, 0 past the end of each, and their lengths."""
    _check(characters, word_lengths)
    lengths = word_lengths.flatten()[chosen]
    begins = (word_lengths.cumsum(dim=0) - word_lengths).flatten()[chosen]
    # One step at least: where there is no word the parameters still have a gradient, of 0.
    longest = int(lengths.max()) if len(lengths) else 1
    step = torch.arange(longest, device=characters.device)[:, None]
    valid = step < lengths
    at = torch.where(valid, begins + step, 0)
    sequence = chosen % max(word_lengths.shape[1], 1)
    return torch.where(valid, characters[at, sequence], 0), lengths


def _check(characters: Tensor, word_lengths: Tensor) -> None:
    if word_lengths.dim() != 2 or word_lengths.is_floating_point():
        raise ShapeError(
            f"word_lengths must be whole numbers [T, B], got {word_lengths.dtype} "
            f"{list(word_lengths.shape)}"
        )
    B = word_lengths.shape[1]
    if characters.dim() != 2 or characters.shape[1] != B or characters.is_floating_point():
        raise ShapeError(
            f"characters must be whole numbers [C, {B}], got {characters.dtype} "
            f"{list(characters.shape)}"
        )
    wanted = word_lengths.sum(dim=0)
    if (word_lengths < 0).any() or (wanted > len(characters)).any():
        raise ShapeError(
            f"word_lengths must be 0 or more, in sum at most C = {len(characters)} in each "
            f"sequence, got sums {wanted.tolist()}"
        )
