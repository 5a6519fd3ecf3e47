"""Units of text that a list holds: characters, words, tokens."""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.core.typed import as_type
from elman.data.text.tokenizer import Decoder, Ids, Tokenizer

UNKNOWN = "<unk>"


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
        symbols = as_type(list[str], value["symbols"], "symbols")
        if len(set(symbols)) < len(symbols):
            raise ValueError("two symbols are the same")
        return cls(symbols)


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
