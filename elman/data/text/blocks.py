"""Text of any size, read in blocks."""

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path

from elman.errors import DataError

BLOCK_BYTES = 1 << 22


class Text:
    """One or several files, or the text that every CPython carries where there are none.

    strict: whether bytes that are not UTF-8 are an error; else they are passed on as surrogate
        escapes, which a byte tokenizer turns back into the bytes.
    """

    def __init__(self, files: Sequence[str | Path] = (), strict: bool = True) -> None:
        self.files = [Path(file) for file in files]
        self.strict = strict
        for file in self.files:
            require_text_file(file)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """The characters from start to stop, in blocks that end at white space where they can."""
        position = 0
        for block in self._all():
            piece = block[max(0, start - position) : None if stop is None else stop - position]
            position += len(block)
            if piece:
                yield piece
            if stop is not None and position >= stop:
                return

    def count(self) -> int:
        """The number of characters."""
        return sum(len(block) for block in self._all())

    def _all(self) -> Iterator[str]:
        if not self.files:
            yield from embedded_text()
        for file in self.files:
            yield from _at_white_space(self._decoded(file))

    def _decoded(self, file: Path) -> Iterator[str]:
        errors = "strict" if self.strict else "surrogateescape"
        decoder = codecs.getincrementaldecoder("utf-8")(errors)
        done = 0
        try:
            with file.open("rb") as source:
                while data := source.read(BLOCK_BYTES):
                    pending = len(decoder.getstate()[0])
                    text = decoder.decode(data)
                    # A byte order mark is no character of the text.
                    yield text if done else text.removeprefix("\ufeff")
                    done += len(data)
            pending = len(decoder.getstate()[0])
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{file}: byte {done - pending + error.start} is not UTF-8 ({error.reason}); "
                "convert the file to UTF-8, or train on bytes with --tokenizer byte"
            ) from error
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}") from error


def embedded_text() -> Iterator[str]:
    """The documentation of the Python language, about 465,000 characters of English."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name].strip("\n") + "\n\n\n"


def require_text_file(file: Path) -> None:
    """Raise DataError for what is no regular file with something in it."""
    if not file.exists():
        raise DataError(f"{file}: no such file")
    if file.is_dir():
        raise DataError(f"{file}: is a folder; name its files, as in {file}/*.txt")
    if not file.is_file():
        raise DataError(f"{file}: is no regular file (it is read more than once); save it to one")
    if file.stat().st_size == 0:
        raise DataError(f"{file}: the file is empty")


def _at_white_space(blocks: Iterator[str]) -> Iterator[str]:
    """The same characters, cut after the last line end of each block, or before its last space."""
    text = ""
    for block in blocks:
        text += block
        cut = text.rfind("\n") + 1 or max(text.rfind(" "), 0)
        if cut == 0 and len(text) > 4 * BLOCK_BYTES:
            cut = len(text)
        if cut:
            yield text[:cut]
            text = text[cut:]
    if text:
        yield text
