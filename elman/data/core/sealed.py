"""Arrow files with a checksum of their structure, so that a damaged one is refused, not run into.

Arrow trusts what describes a file's columns and batches; where that is damaged, it may end the
process. The checksum covers all of it, not the values, so that opening a file need not read it:

    file  = Arrow IPC file | index | trailer
    index = where each record batch ends, int64; the Arrow file's end, int64
    trailer = MAGIC, int64 number of int64 in the index, uint32 CRC of all but the batches' bodies
"""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from elman.errors import RunError

MAGIC = b"elman-01"
_TRAILER = struct.Struct("<8sqI")


def write_sealed(path: Path, schema: Any, batches: Iterable[Any]) -> None:
    """Write record batches to a file."""
    ends = []
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            ends.append(out.tell())
    ends.append(path.stat().st_size)
    with path.open("ab") as out:
        out.write(struct.pack(f"<{len(ends)}q", *ends))
    with pa.memory_map(str(path)) as source:
        checksum = _checksum(memoryview(source.read_buffer()), ends)
    with path.open("ab") as out:
        out.write(_TRAILER.pack(MAGIC, len(ends), checksum))


def open_sealed(path: Path) -> Any:
    """The reader of a file that `write_sealed` wrote, mapped; RunError where it is not whole."""
    try:
        buffer = pa.memory_map(str(path)).read_buffer()
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{path}: cannot be read ({error}); train anew") from error
    data = memoryview(buffer)
    body = data[: -_TRAILER.size]
    if len(data) < _TRAILER.size or data[-_TRAILER.size :][:8] != MAGIC:
        raise RunError(f"{path}: is damaged, or no file that elman wrote; train anew")
    _, count, checksum = _TRAILER.unpack(data[-_TRAILER.size :])
    if not 1 <= count <= len(body) // 8:
        raise RunError(f"{path}: is damaged; train anew")
    ends = list(struct.unpack(f"<{count}q", body[-8 * count :]))
    if ends[-1] != len(body) - 8 * count or _checksum(body, ends) != checksum:
        raise RunError(f"{path}: is damaged; train anew")
    return pa.ipc.open_file(pa.BufferReader(buffer.slice(0, ends[-1])))


def _checksum(data: memoryview, ends: list[int]) -> int:
    """The CRC of what stands around the bodies: header, each batch's description, footer, index."""
    # The header is 8 bytes and the schema's message; a message begins with -1 and its length.
    header = 16 + _message_length(data, 8)
    checksum = zlib.crc32(data[:header])
    for begin in [header, *ends[:-2]][: len(ends) - 1]:
        described = data[begin : begin + 8 + _message_length(data, begin)]
        checksum = zlib.crc32(described, checksum)
    return zlib.crc32(data[ends[-2] if len(ends) > 1 else header :], checksum)


def _message_length(data: memoryview, begin: int) -> int:
    return int.from_bytes(data[begin + 4 : begin + 8], "little", signed=True)
