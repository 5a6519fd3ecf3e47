"""The tokenizers by the names of their units."""

from pathlib import Path
from typing import Any

from elman.data.core.files import loaded
from elman.data.text.byte_pairs import BPETokenizer
from elman.data.text.symbols import CharTokenizer, TokenTokenizer, WordTokenizer
from elman.data.text.tokenizer import ByteTokenizer, Tokenizer
from elman.errors import OptionError, unknown

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
    return loaded(path, "a tokenizer", tokenizer_from_json)
