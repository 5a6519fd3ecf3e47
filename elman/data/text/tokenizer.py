"""Text to numbers and back; the bytes, which are in any text."""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from elman.data.core.files import write_json
from elman.errors import DataError

Ids = NDArray[np.int64]


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
