"""The units of text: bytes, characters, words, byte pairs."""

import codecs
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from elman.data.files import read_json, write_json
from elman.errors import DataError, OptionError, RunError, unknown

UNKNOWN = "<unk>"
Ids = NDArray[np.int64]
#: Byte pairs are learnt from so many characters at most, see `spread`.
BPE_SAMPLE = 20_000_000


class Tokenizer(ABC):
    """Text to numbers and back."""

    unit: ClassVar[str]

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """How many different ids there are: 0 ... vocab_size - 1."""

    @classmethod
    @abstractmethod
    def fit(cls, blocks: Iterable[str], vocab_size: int | None) -> "Tokenizer":
        """Learn the units from text; at most vocab_size of them where that is given."""

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """The ids of a text; what was never seen becomes `unknown_id`, or bytes."""

    @abstractmethod
    def symbol(self, index: int) -> str:
        """One unit, for people."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes it from again."""

    @classmethod
    @abstractmethod
    def from_json(cls, value: dict[str, Any]) -> "Tokenizer":
        """The tokenizer that `to_json` described."""

    #: The id of what was never seen; None where everything can be written.
    unknown_id: int | None = None

    def decoder(self) -> "Decoder":
        """What turns a stream of ids into text as they come."""
        return Decoder(self)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids."""
        stream = self.decoder()
        return "".join([stream.push(int(i)) for i in ids] + [stream.end()])

    def require_known(self, text: str) -> Ids:
        """The ids of a prompt; DataError names what the model has never seen."""
        ids = self.encode(text)
        if self.unknown_id is not None and (ids == self.unknown_id).any():
            unseen = sorted(
                {p for p in self.pieces(text) if (self.encode(p) == self.unknown_id).any()}
            )
            shown = ", ".join(repr(p) for p in unseen[:10])
            raise DataError(
                f"the model has never seen {shown} in its training text; "
                "leave it out of the prompt, or train with --tokenizer byte or bpe"
            )
        return ids

    def pieces(self, text: str) -> list[str]:
        """The text, cut into units."""
        return list(text)

    def save(self, path: Path) -> None:
        """Write tokenizer.json."""
        write_json(path, {"unit": self.unit, **self.to_json()})


class Decoder:
    """Ids to text, one at a time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def push(self, index: int) -> str:
        """The text that this id completes, perhaps none yet."""
        return self.tokenizer.symbol(index)

    def end(self) -> str:
        """What is still held back."""
        return ""


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8, or of any file at all."""

    unit = "byte"

    @property
    def vocab_size(self) -> int:
        return 256

    @classmethod
    def fit(cls, blocks: Iterable[str], vocab_size: int | None) -> "ByteTokenizer":
        return cls()

    def encode(self, text: str) -> Ids:
        data = text.encode("utf-8", "surrogateescape")
        return np.frombuffer(data, dtype=np.uint8).astype(np.int64)

    def symbol(self, index: int) -> str:
        return bytes([index]).decode("utf-8", "backslashreplace")

    def decoder(self) -> "Decoder":
        return _ByteDecoder(self)

    def to_json(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ByteTokenizer":
        return cls()


class _ByteDecoder(Decoder):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, index: int) -> str:
        return self._utf8.decode(bytes([index]))

    def end(self) -> str:
        return self._utf8.decode(b"", final=True)


class SymbolTokenizer(Tokenizer):
    """What characters and words share: a list of symbols, the unknown one first."""

    unknown_id = 0

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = [UNKNOWN, *symbols]
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols) if i > 0}

    @property
    def vocab_size(self) -> int:
        return len(self.symbols)

    @classmethod
    def fit(
        cls, blocks: Iterable[str], vocab_size: int | None, min_count: int = 1
    ) -> "SymbolTokenizer":
        counts: Counter[str] = Counter()
        for block in blocks:
            cls._count(counts, block)
        return cls.of_counts(counts, vocab_size, min_count)

    @classmethod
    def of_counts(
        cls, counts: Counter[str], vocab_size: int | None, min_count: int = 1
    ) -> "SymbolTokenizer":
        """The vocab_size - 1 most frequent symbols that were seen min_count times or more."""
        frequent = [symbol for symbol, count in counts.items() if count >= min_count]
        # The most frequent first; among equals in the order of their code points.
        ranked = sorted(frequent, key=lambda symbol: (-counts[symbol], symbol))
        return cls(ranked if vocab_size is None else ranked[: vocab_size - 1])

    @classmethod
    @abstractmethod
    def _cut(cls, text: str) -> Sequence[str]:
        """The text, cut into units."""

    @classmethod
    def _count(cls, counts: Counter[str], text: str) -> None:
        counts.update(cls._cut(text))

    def pieces(self, text: str) -> list[str]:
        return list(self._cut(text))

    def encode(self, text: str) -> Ids:
        return self.encode_pieces(self._cut(text))

    def encode_pieces(self, pieces: Sequence[str]) -> Ids:
        """The ids of units that are cut already, one each."""
        found = map(self._ids.get, pieces, repeat(0))
        return np.fromiter(found, dtype=np.int64, count=len(pieces))

    def symbol(self, index: int) -> str:
        return self.symbols[index]

    def to_json(self) -> dict[str, Any]:
        return {"symbols": self.symbols[1:]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "SymbolTokenizer":
        return cls(value["symbols"])


class CharTokenizer(SymbolTokenizer):
    """Single characters."""

    unit = "char"

    def __init__(self, symbols: Sequence[str]) -> None:
        super().__init__(symbols)
        self._table = np.zeros(0x110000, dtype=np.int64)
        self._table[[ord(symbol) for symbol in symbols]] = range(1, len(symbols) + 1)

    @classmethod
    def _cut(cls, text: str) -> Sequence[str]:
        return text

    @classmethod
    def _count(cls, counts: Counter[str], text: str) -> None:
        found, often = np.unique(_code_points(text), return_counts=True)
        counts.update(dict(zip(map(chr, found.tolist()), often.tolist(), strict=True)))

    def encode(self, text: str) -> Ids:
        return self._table[_code_points(text)]


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


class WordTokenizer(SymbolTokenizer):
    """Words and marks, each with the space before it, so that nothing is lost."""

    unit = "word"
    _WORD = re.compile(r" ?\w+| ?[^\w\s]+|\s")

    @classmethod
    def _cut(cls, text: str) -> Sequence[str]:
        return cls._WORD.findall(text)


class TokenTokenizer(SymbolTokenizer):
    """What stands between white space, of a text that was cut into tokens before.

    Decoding puts one space between them, whatever white space there was.
    """

    unit = "token"

    @classmethod
    def _cut(cls, text: str) -> Sequence[str]:
        return text.split()

    def decoder(self) -> "Decoder":
        return _TokenDecoder(self)


class _TokenDecoder(Decoder):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._space = ""

    def push(self, index: int) -> str:
        text = self._space + self.tokenizer.symbol(index)
        self._space = " "
        return text


class BPETokenizer(Tokenizer):
    """Byte pairs: frequent strings of bytes, by the tokenizers library."""

    unit = "bpe"
    # Byte pairs end where a run of white space begins, and around a line end between two words.
    # The four separators that Python alone takes for white space, x1c to x1f, are none here.
    _WORD = re.compile(r"(?<=[\S\x1c-\x1f])\n(?=[\S\x1c-\x1f])|[^\S\x1c-\x1f]*[\S\x1c-\x1f]+|\s+")
    #: The ids of words of so many characters in all are remembered.
    _MOST = 1 << 22

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self._known: dict[str, list[int]] = {}
        self._held = 0

    @property
    def vocab_size(self) -> int:
        return int(self.inner.get_vocab_size())

    @classmethod
    def fit(
        cls, blocks: Iterable[str], vocab_size: int | None, most: int = BPE_SAMPLE
    ) -> "BPETokenizer":
        """Learn the units from ``most`` characters of a text, see `spread`."""
        from tokenizers import Tokenizer as Inner
        from tokenizers import decoders, models, pre_tokenizers, trainers

        inner = Inner(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size or 4096,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        pieces = chain.from_iterable(map(_pieces, blocks))
        inner.train_from_iterator(spread(pieces, most), trainer)
        return cls(inner)

    def encode(self, text: str) -> Ids:
        words = self._WORD.findall(text)
        # Few words make most of a text, so what they are is remembered.
        if self._held > self._MOST:
            self._known, self._held = {}, 0
        new = [word for word in dict.fromkeys(words) if word not in self._known]
        self._known.update(zip(new, (e.ids for e in self.inner.encode_batch(new)), strict=True))
        self._held += sum(map(len, new))
        ids = chain.from_iterable(map(self._known.__getitem__, words))
        return np.fromiter(ids, dtype=np.int64)

    def symbol(self, index: int) -> str:
        return str(self.inner.decode([index]))

    def decoder(self) -> "Decoder":
        return _BPEDecoder(self)

    def to_json(self) -> dict[str, Any]:
        return {"tokenizers": self.inner.to_str()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "BPETokenizer":
        from tokenizers import Tokenizer as Inner

        return cls(Inner.from_str(value["tokenizers"]))


def _pieces(block: str, size: int = 1 << 14) -> Iterator[str]:
    """A block in pieces of about so many characters, cut at line ends where there are some."""
    begin = 0
    while begin < len(block):
        end = block.rfind("\n", begin, begin + size) + 1 or begin + size
        yield block[begin:end]
        begin = end


def spread(pieces: Iterable[str], most: int) -> list[str]:
    """Pieces of a text, evenly spread over it, of ``most`` characters together at most.

    All where they are no more, else every second, fourth, eighth ..., in one pass.
    """
    kept: list[str] = []
    size, stride = 0, 1
    for index, piece in enumerate(pieces):
        if index % stride == 0:
            kept.append(piece)
            size += len(piece)
        while size > most and len(kept) > 1:
            kept, stride = kept[::2], 2 * stride
            size = sum(map(len, kept))
    return kept


class _BPEDecoder(Decoder):
    """A character may be spread over several pieces: hold them back until it is whole."""

    def __init__(self, tokenizer: BPETokenizer) -> None:
        super().__init__(tokenizer)
        self._held: list[int] = []
        self._inner = tokenizer.inner

    def push(self, index: int) -> str:
        self._held.append(index)
        text = str(self._inner.decode(self._held))
        if text.endswith("\N{REPLACEMENT CHARACTER}") and len(self._held) < 8:
            return ""
        self._held = []
        return text

    def end(self) -> str:
        text = str(self._inner.decode(self._held)) if self._held else ""
        self._held = []
        return text


#: Units of a running text, from which decoding gives every character back.
TOKENIZERS: dict[str, type[Tokenizer]] = {
    t.unit: t for t in (ByteTokenizer, CharTokenizer, WordTokenizer, BPETokenizer)
}
#: Units of single sentences, whose white space may be lost.
SENTENCE_TOKENIZERS: dict[str, type[Tokenizer]] = {**TOKENIZERS, "token": TokenTokenizer}


def tokenizer_class(unit: str) -> type[Tokenizer]:
    """The tokenizer for "byte", "char", "word" or "bpe"."""
    if unit not in TOKENIZERS:
        raise unknown("tokenizer", unit, TOKENIZERS)
    return TOKENIZERS[unit]


def check_vocab_size(unit: str, vocab_size: int | None) -> None:
    """Raise OptionError where this unit cannot have that many symbols."""
    tokenizer_class(unit)
    least = {"bpe": 256}.get(unit, 2)
    if vocab_size is not None and vocab_size < least:
        raise OptionError(
            f"vocab_size must be at least {least} for the {unit} tokenizer, got {vocab_size}"
        )


def tokenizer_from_json(value: dict[str, Any]) -> Tokenizer:
    """The tokenizer of {"unit": ..., what its `to_json` gave}."""
    return SENTENCE_TOKENIZERS[value["unit"]].from_json(value)


def load_tokenizer(path: Path) -> Tokenizer:
    """Read tokenizer.json; RunError where it is missing, damaged or foreign."""
    value = read_json(path)
    try:
        return tokenizer_from_json(value)
    except Exception as error:
        raise RunError(f"{path}: is not a tokenizer that elman wrote: {error!r}") from error
