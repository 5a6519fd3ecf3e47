"""Single sentences as numbers, and back."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elman.data.core.files import loaded, write_json
from elman.data.core.typed import as_type
from elman.data.text.byte_pairs import BPE_SAMPLE, BPETokenizer
from elman.data.text.symbols import UNKNOWN, SymbolTokenizer, TokenTokenizer
from elman.data.text.tokenizer import Ids, Tokenizer
from elman.data.text.tokenizers import SENTENCE_TOKENIZERS, tokenizer_from_json
from elman.errors import OptionError, require_positive, unknown

SPECIALS = ("start", "end", "pad")


class TextEncoder:
    """Single sentences as ids, by a tokenizer, with special ids after the tokenizer's own.

    White space around a sentence is taken off. Words and byte pairs carry the space before them:
    a sentence gets one in front, so that its first word is the unit that it is elsewhere, and
    `decode` takes it off again.

    lower_case: whether all is turned to lower case. specials: of "start", "end", "pad", those
    that are to have an id.
    Raises OptionError.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, lower_case: bool = False, specials: Sequence[str] = ()
    ) -> None:
        for name in specials:
            if name not in SPECIALS or list(specials).count(name) > 1:
                raise unknown("special id", name, SPECIALS)
        self.tokenizer = tokenizer
        self.lower_case = lower_case
        self.special_ids = {name: tokenizer.vocab_size + i for i, name in enumerate(specials)}

    @classmethod
    def fit(
        cls,
        unit: str,
        sentences: Iterable[str],
        *,
        vocab_size: int | None = None,
        min_count: int = 1,
        lower_case: bool = False,
        specials: Sequence[str] = (),
        bpe_sample: int = BPE_SAMPLE,
    ) -> "TextEncoder":
        """Learn the units of sentences; at most vocab_size, each seen min_count times or more.

        bpe_sample: characters that byte pairs are learnt from, see
        `elman.data.text.byte_pairs.spread`.
        """
        if unit not in SENTENCE_TOKENIZERS:
            raise unknown("tokenizer", unit, SENTENCE_TOKENIZERS)
        kind = SENTENCE_TOKENIZERS[unit]
        require_positive(min_count=min_count)
        if min_count > 1 and not issubclass(kind, SymbolTokenizer):
            raise OptionError(f"min_count is for char, word and token, not for {unit}")
        blocks = (_prepared(sentence, unit, lower_case) for sentence in sentences)
        tokenizer: Tokenizer
        if issubclass(kind, SymbolTokenizer):
            tokenizer = kind.fit(blocks, vocab_size, min_count)
        elif issubclass(kind, BPETokenizer):
            tokenizer = kind.fit(blocks, vocab_size, bpe_sample)
        else:
            tokenizer = kind.fit(blocks, vocab_size)
        return cls(tokenizer, lower_case=lower_case, specials=specials)

    @classmethod
    def fit_words(
        cls,
        sentences: Iterable[Sequence[str]],
        *,
        vocab_size: int | None = None,
        min_count: int = 1,
        lower_case: bool = False,
        specials: Sequence[str] = (),
    ) -> "TextEncoder":
        """Learn the words of sentences that are cut already; a word may hold a space."""
        require_positive(min_count=min_count)
        counts: Counter[str] = Counter()
        for words in sentences:
            counts.update(word.lower() if lower_case else word for word in words)
        tokenizer = TokenTokenizer.of_counts(counts, vocab_size, min_count)
        return cls(tokenizer, lower_case=lower_case, specials=specials)

    @property
    def vocab_size(self) -> int:
        """How many different ids there are, the special ones among them."""
        return self.tokenizer.vocab_size + len(self.special_ids)

    @property
    def start_id(self) -> int:
        """The id that stands before a sentence; OptionError where there is none."""
        return self._special("start")

    @property
    def end_id(self) -> int:
        """The id that stands after a sentence; OptionError where there is none."""
        return self._special("end")

    @property
    def pad_id(self) -> int:
        """The id that fills a shorter sentence up; OptionError where there is none."""
        return self._special("pad")

    def _special(self, name: str) -> int:
        if name not in self.special_ids:
            raise OptionError(f"these sentences have no '{name}' id; name it in specials")
        return self.special_ids[name]

    def encode(self, sentence: str, *, start: bool = False, end: bool = False) -> Ids:
        """The ids of a sentence, after the start id and before the end id where asked for."""
        text = _prepared(sentence, self.tokenizer.unit, self.lower_case)
        return self._framed(self.tokenizer.encode(text), start, end)

    def require_known(self, sentence: str) -> Ids:
        """The ids of what a sentence begins with; DataError names what was never seen."""
        text = _prepared(sentence, self.tokenizer.unit, self.lower_case)
        return self.tokenizer.require_known(text)

    def encode_words(self, words: Sequence[str], *, start: bool = False, end: bool = False) -> Ids:
        """One id for each word of a sentence that is cut already; for the unit "token"."""
        if not isinstance(self.tokenizer, TokenTokenizer):
            raise OptionError(f"a {self.tokenizer.unit} is no whole word: use the unit 'token'")
        pieces = [word.lower() for word in words] if self.lower_case else words
        return self._framed(self.tokenizer.encode_pieces(pieces), start, end)

    def _framed(self, ids: Ids, start: bool, end: bool) -> Ids:
        before = [self.start_id] if start else []
        after = [self.end_id] if end else []
        return np.concatenate([before, ids, after]).astype(np.int64) if start or end else ids

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence, up to the end id; the other special ids are left out."""
        stream = self.tokenizer.decoder()
        text = ""
        for index in map(int, ids):
            if index == self.special_ids.get("end"):
                break
            if index == self.tokenizer.unknown_id and self.tokenizer.unit == "word":
                # What was never seen is a word with a space before it, as nearly all are.
                text += f" {UNKNOWN}"
            elif index < self.tokenizer.vocab_size:
                text += stream.push(index)
        return (text + stream.end()).removeprefix(_space(self.tokenizer.unit))

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes it from again."""
        return {
            "tokenizer": {"unit": self.tokenizer.unit, **self.tokenizer.to_json()},
            "lower_case": self.lower_case,
            "specials": list(self.special_ids),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "TextEncoder":
        """The sentences that `to_json` described."""
        return cls(
            tokenizer_from_json(value["tokenizer"]),
            lower_case=as_type(bool, value["lower_case"], "lower_case"),
            specials=as_type(list[str], value["specials"], "specials"),
        )

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path, specials: Sequence[str] = ()) -> "TextEncoder":
        """Read what `save` wrote; RunError where it is missing, damaged or foreign, or lacks one of
        the special ids ``specials``."""

        def read(value: Any) -> "TextEncoder":
            encoder = cls.from_json(value)
            for name in specials:
                encoder._special(name)
            return encoder

        return loaded(path, "sentences", read)


def _space(unit: str) -> str:
    return " " if unit in ("word", "bpe") else ""


def _prepared(sentence: str, unit: str, lower_case: bool) -> str:
    text = sentence.strip()
    text = text.lower() if lower_case else text
    return _space(unit) + text if text else ""
