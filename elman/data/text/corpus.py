"""A text as numbers on disk, and the streams that a language model reads from it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elman.data.core.batch import Batch
from elman.data.core.files import RESTORE, written_aside
from elman.data.text.blocks import Text
from elman.data.text.byte_pairs import BPE_SAMPLE, BPETokenizer
from elman.data.text.tokenizer import Tokenizer
from elman.errors import DataError, RunError

#: What the ids of a vocabulary are kept in.
DTYPES = ("uint8", "uint16", "uint32")
#: Called with what is being done and how many characters of it have been.
ProgressCallback = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Part:
    """Token ids in a file that is mapped, not read, and what they were made from."""

    path: str
    dtype: str
    tokens: int
    characters: int
    words: int
    unknown: int

    def ids(self, folder: Path) -> NDArray[Any]:
        """The ids, mapped into memory."""
        file = folder / self.path
        if self.dtype not in DTYPES:
            raise RunError(f"{file}: ids are {', '.join(DTYPES)}, not {self.dtype}; {RESTORE}")
        wanted = self.tokens * np.dtype(self.dtype).itemsize
        if not file.is_file() or file.stat().st_size != wanted:
            raise DataError(f"{file}: missing or damaged, {wanted} bytes expected; train anew")
        return np.memmap(file, dtype=self.dtype, mode="r", shape=(self.tokens,))

    def to_json(self) -> dict[str, Any]:
        """A JSON object with all fields."""
        return asdict(self)


def encode_part(
    blocks: Iterable[str],
    tokenizer: Tokenizer,
    folder: Path,
    path: str,
    report: ProgressCallback,
    total: int,
) -> Part:
    """Write the ids of these blocks of text to a file, in as few bytes as the vocabulary needs."""
    dtype = np.min_scalar_type(max(tokenizer.vocab_size - 1, 1))
    tokens = characters = words = unseen = 0
    with written_aside(folder / path) as aside, aside.open("wb") as out:
        for block in blocks:
            ids = tokenizer.encode(block)
            out.write(ids.astype(dtype).tobytes())
            tokens += len(ids)
            characters += len(block)
            words += len(block.split())
            if tokenizer.unknown_id is not None:
                unseen += int((ids == tokenizer.unknown_id).sum())
            report(f"encoding {Path(path).stem}", characters, total)
    return Part(path, dtype.name, tokens, characters, words, unseen)


def fit_tokenizer(
    kind: type[Tokenizer],
    text: Text,
    stop: int,
    vocab_size: int | None,
    report: ProgressCallback,
    bpe_sample: int = BPE_SAMPLE,
) -> Tokenizer:
    """Learn the units from the first ``stop`` characters; of byte pairs from ``bpe_sample`` of
    them, see `elman.data.text.byte_pairs.spread`."""

    def counted() -> Iterator[str]:
        done = 0
        for block in text.blocks(0, stop):
            yield block
            done += len(block)
            report("learning the units", done, stop)

    if issubclass(kind, BPETokenizer):
        return kind.fit(counted(), vocab_size, bpe_sample)
    return kind.fit(counted(), vocab_size)


class Streams:
    """A long text as B contiguous streams, read side by side in chunks of ``bptt`` steps.

    Stream b holds ids b*L ... (b+1)*L, L = (N - 1) // B; the state of a chunk's end is the state
    of the next chunk's start, so the network reads each stream from end to end.
    """

    def __init__(self, ids: NDArray[Any], batch_size: int, bptt: int) -> None:
        self.ids = ids
        self.batch_size = batch_size
        self.bptt = bptt
        self.length = (len(ids) - 1) // batch_size
        if self.length < 1:
            raise DataError(f"{len(ids)} tokens cannot fill {batch_size} streams")

    def __len__(self) -> int:
        """How many chunks there are from end to end."""
        return (self.length + self.bptt - 1) // self.bptt

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """The next stretch of every stream: tokens and targets [T, B], the target being the token
        that follows."""
        index = step % len(self)
        begin = index * self.bptt
        end = min(begin + self.bptt, self.length)
        starts = np.arange(self.batch_size)[rows] * self.length
        picked = np.stack([self.ids[s + begin : s + end + 1] for s in starts], axis=1)
        both = torch.from_numpy(picked.astype(np.int64))
        return Batch({"tokens": both[:-1], "targets": both[1:]}, first=index == 0)


def require_enough(tokens: int, batch_size: int, bptt: int, what: str) -> None:
    """Raise DataError where a text does not fill one chunk; it says what would work."""
    needed = batch_size * bptt + 1
    if tokens < 2:
        raise DataError(f"{what} is too short: {tokens} tokens, and the least is 2; give more text")
    if tokens < needed:
        fitting = max(1, (tokens - 1) // batch_size)
        hint = (
            f"--bptt {fitting} fits"
            if tokens > batch_size
            else f"--batch-size 1 --bptt {max(1, tokens - 1)} fits"
        )
        raise DataError(
            f"{what} is too short: {tokens} tokens, but a chunk of batch_size {batch_size} x bptt "
            f"{bptt} needs at least {needed}; {hint}, or give more text"
        )
