"""What models of labels and tags read: tokens or vectors, characters, and the network over them."""

from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.errors import OptionError, ShapeError, require_positive
from elman.models.common.encoder import Encoder, StackOptions, embedded
from elman.models.common.targets import inside
from elman.models.common.words import CharacterEncoder, WordDropout


class InputEncoderOptions(StackOptions, total=False):
    """What a model says of its input and its recurrent layers: see `InputEncoder`."""

    vocab_size: int | None
    input_size: int | None
    embedding_size: int | None
    hidden_size: int
    num_layers: int
    bidirectional: bool
    window: int
    word_dropout: float
    unknown_id: int | None
    character_vocab_size: int | None
    character_embedding_size: int
    character_hidden_size: int


class InputEncoder(nn.Module):
    """Reads a sequence of tokens, of spelt words or of vectors.

        u_t = E w_t, or x_t;   [u_t, characters of w_t] where there are some
        u_t = [u_{t-k} ... u_{t+k}]                                       window = 2k + 1
        h_1 ... h_n = encoder(u_1 ... u_n)

    x: [T, B] ids where vocab_size is given, else [T, B, input_size]
    lengths: [B], 0 ... T, in any order, None where all are T   ->   h: [T, B, output_size]
    embedding_size: of a token's vector, hidden_size where not given. hidden_size, num_layers,
    bidirectional: see `Encoder`. window: how many neighbours' vectors a step reads, its own among
    them, zeros beyond the ends. word_dropout, unknown_id: see `WordDropout`.
    character_vocab_size, character_embedding_size, character_hidden_size: see `CharacterEncoder`,
    whose cell is that of the other layers. options: see `StackOptions`; dropout acts on u_t too.

    h is 0 past the end. What stands in the padding changes nothing: ids can be anything there.
    Raises OptionError, ShapeError. Source of the window: Mesnil et al. 2013, Investigation of
    Recurrent-Neural-Network Architectures ... for Spoken Language Understanding, section 3.2.
    """

    def __init__(
        self,
        *,
        vocab_size: int | None = None,
        input_size: int | None = None,
        embedding_size: int | None = None,
        hidden_size: int = 256,
        num_layers: int = 1,
        bidirectional: bool = False,
        window: int = 1,
        word_dropout: float = 0.0,
        unknown_id: int | None = None,
        character_vocab_size: int | None = None,
        character_embedding_size: int = 25,
        character_hidden_size: int = 25,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        if (vocab_size is None) == (input_size is None):
            raise OptionError("give either vocab_size, for tokens, or input_size, for vectors")
        require_positive(window=window)
        if window % 2 == 0:
            raise OptionError(f"window must be odd, as many neighbours on each side, got {window}")
        self.window = window
        self.word_dropout = WordDropout(word_dropout, unknown_id, vocab_size)
        self.embedding: nn.Embedding | None = None
        if vocab_size is not None:
            input_size = hidden_size if embedding_size is None else embedding_size
            require_positive(
                vocab_size=vocab_size, hidden_size=hidden_size, embedding_size=input_size
            )
            self.embedding = nn.Embedding(vocab_size, input_size)
        assert input_size is not None
        self.characters: CharacterEncoder | None = None
        if character_vocab_size is not None:
            self.characters = CharacterEncoder(
                character_vocab_size,
                character_embedding_size,
                character_hidden_size,
                cell=options.get("cell", "lstm"),
                cell_options=options.get("cell_options"),
            )
            input_size += self.characters.output_size
        self.encoder = Encoder(
            input_size=window * input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            **options,
        )

    @property
    def output_size(self) -> int:
        """The size of the last axis of the outputs."""
        return self.encoder.output_size

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        characters: Tensor | None = None,
        word_lengths: Tensor | None = None,
    ) -> Tensor:
        """h: [T, B, output_size]; characters, word_lengths: as `CharacterEncoder` takes them."""
        u = self.vectors(x, lengths, characters, word_lengths)
        if len(u):
            return self.encoder(u, lengths)[0]
        # A step of padding, so that every parameter has a gradient, of 0: processes that share a
        # training wait for each other's.
        padding = u.new_zeros(1, *u.shape[1:])
        none = torch.zeros(u.shape[1], dtype=torch.int64, device=u.device)
        return self.encoder(torch.cat((u, padding)), none)[0][:0]

    def vectors(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        characters: Tensor | None = None,
        word_lengths: Tensor | None = None,
    ) -> Tensor:
        """u: [T, B, I], what the encoder reads at each step."""
        if x.dim() != (3 if self.embedding is None else 2):
            axes = "[T, B, input_size]" if self.embedding is None else "[T, B] ids"
            raise ShapeError(f"x must be {axes}, got {list(x.shape)}")
        valid = inside(lengths, x)
        if self.embedding is not None:
            x = embedded(self.embedding, self.word_dropout(torch.where(valid, x, 0)))
        if self.characters is not None or characters is not None or word_lengths is not None:
            x = torch.cat((x, self._spelt(characters, word_lengths, valid).to(x.dtype)), dim=-1)
        return x if self.window == 1 else self._with_neighbours(x, valid)

    def _with_neighbours(self, u: Tensor, valid: Tensor) -> Tensor:
        each_side = self.window // 2
        padded = F.pad(torch.where(valid[..., None], u, 0.0), (0, 0, 0, 0, each_side, each_side))
        return torch.cat([padded[i : i + len(u)] for i in range(self.window)], dim=-1)

    def _spelt(
        self, characters: Tensor | None, word_lengths: Tensor | None, valid: Tensor
    ) -> Tensor:
        if self.characters is None or characters is None or word_lengths is None:
            raise OptionError(
                "a model built with character_vocab_size reads characters and word_lengths, and "
                "no other does"
            )
        if word_lengths.shape != valid.shape:
            raise ShapeError(
                f"word_lengths must be [T, B] = {list(valid.shape)}, got {list(word_lengths.shape)}"
            )
        return self.characters(characters, torch.where(valid, word_lengths, 0))
