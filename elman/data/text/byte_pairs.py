"""Byte pairs: units of text that are learnt from it, and in which all can be written."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from elman.data.text.tokenizer import Decoder, Ids, Tokenizer

#: Byte pairs are learnt from so many characters at most, see `spread`.
BPE_SAMPLE = 20_000_000


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

        _require_own(json.loads(value["tokenizers"]))
        return cls(Inner.from_str(value["tokenizers"]))


def _require_own(value: dict[str, Any]) -> None:
    """Raise ValueError for what `BPETokenizer.fit` does not make: a tokenizer that pads, cuts or
    changes texts in another way than by its pairs."""
    for name in ("padding", "truncation", "normalizer", "post_processor"):
        if value[name] is not None:
            raise ValueError(f"it has a {name}")
    if value["added_tokens"]:
        raise ValueError("it has added tokens")
    for name in ("pre_tokenizer", "decoder"):
        if value[name]["type"] != "ByteLevel":
            raise ValueError(f"its {name} is {value[name]['type']}, not ByteLevel")
    model = value["model"]
    if model["type"] != "BPE" or not model["vocab"]:
        raise ValueError(f"its model is {model['type']} with {len(model['vocab'])} units")
    if sorted(model["vocab"].values()) != list(range(len(model["vocab"]))):
        raise ValueError("its units are not numbered from 0 without a gap")


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
