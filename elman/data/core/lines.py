"""Lines of text files, in any encoding, packed with gzip or not."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from elman.data.core.reading import reading
from elman.data.text.blocks import BLOCK_BYTES, require_text_file
from elman.errors import DataError, OptionError


def read_lines(file: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a text file without their ends, which are LF, CR LF or CR, mixed as they come.

    Raises DataError where the file is missing, empty or in another encoding; it says where.
    """
    require_text_file(file)
    encoding = checked_encoding(encoding)

    def lines() -> Iterator[str]:
        with opened_text(file, encoding) as source:
            for line in whole_lines(source, file):
                yield line.removesuffix("\n")

    return lines()


#: No line of text is longer, in characters: a packed file of this program's memory would be.
LONGEST = 1 << 26


def whole_lines(source: IO[str], file: Path) -> Iterator[str]:
    """The lines of an open text with their ends. Raises DataError for one that has no end."""
    number = 0
    while line := source.readline(LONGEST):
        number += 1
        if len(line) == LONGEST and not line.endswith("\n"):
            raise DataError(
                f"{file}: line {number}: is longer than {LONGEST:,} characters; is it no text, or "
                "are its line ends lost?"
            )
        yield line


@contextmanager
def opened_text(file: Path, encoding: str) -> Iterator[IO[str]]:
    """The text of a file with all its line ends as LF; what goes wrong becomes a DataError."""
    encoding = checked_encoding(encoding)
    # A byte order mark is no character of the text.
    signed = "utf-8-sig" if encoding == "utf-8" else encoding
    try:
        with opened(file) as raw, io.TextIOWrapper(raw, encoding=signed) as source:
            yield source
    except UnicodeError as error:
        with reading(file, "text", cure="fetch it again"):  # what follows may be no gzip
            raise _misread(file, encoding) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{file}: is no whole gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error


def opened(file: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where its name ends in .gz."""
    packed: Any = gzip.GzipFile(file, "rb") if file.suffix == ".gz" else file.open("rb")
    return packed


def unpacked_name(file: Path) -> Path:
    """The file's name without .gz."""
    return file.with_suffix("") if file.suffix == ".gz" else file


def checked_encoding(encoding: str) -> str:
    """The encoding's usual name; OptionError where Python knows no such encoding of text."""
    try:
        b"a".decode(encoding, "ignore")
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise OptionError(
            f"unknown encoding '{encoding}': as in utf-8, latin-1, cp1252, utf-16"
        ) from error


def _misread(file: Path, encoding: str) -> DataError:
    """The error for the first bytes that are not in this encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, done, wide = 1, 0, False
    with opened(file) as source:
        while True:
            data = source.read(BLOCK_BYTES)
            wide |= done == 0 and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            pending = len(decoder.getstate()[0])
            try:
                line += _line_ends(decoder.decode(data, final=not data))
            except UnicodeError as error:
                # That UTF-16 has no byte order mark is said without a place: it is the begin.
                good = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
                line += _line_ends(good.decode(encoding, "replace"))
                place = f"line {line}, byte {done - pending + len(good)}"
                why = getattr(error, "reason", error)
                other = "utf-16" if wide else "latin-1" if encoding == "utf-8" else "utf-8"
                return DataError(
                    f"{file}: {place} is not {encoding.upper()} ({why}); convert the "
                    f"file to UTF-8, or name its encoding, as in --encoding {other}"
                )
            done += len(data)


def _line_ends(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")
