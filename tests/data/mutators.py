"""Changes of a file's bytes: those that damage any file, and those that know a format."""

import gzip
import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable

Change = Callable[[random.Random, bytes], bytes]

#: What files are damaged by in life: marks, line ends, numbers that no type holds, deep nests.
TOKENS = (
    *(b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\r", b"\r\n", b"\n", b"\x1a", b"\x1c"),
    *(
        b"\xff",
        b"\xc3",
        b"\xe2\x80\xa8",
        b"\xc2\x85",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\xf4\x90\x80\x80",
    ),
    *(b"nan", b"-inf", b"Infinity", b"NaN", b"1e999", b"1e308", b"-1", b"0", b"-0.0", b"1e-320"),
    *(b"9" * 19, b"9" * 400, b"9" * 5000, b"1" + b"0" * 30, b"0x10", b"1_000", b"+", b"-", b"e"),
    *(b'"', b'""', b"'", b",", b"\t", b";", b":", b"|", b"#", b"@", b" ", b"\\", b"/", b"../"),
    *(b"null", b"true", b"{}", b"[]", b"[" * 3000, b'{"a":' * 3000, b"[[1]]", b'""', b'"x"', b"?"),
)
#: The same for whole numbers in binary heads.
NUMBERS = (0, 1, 2, 3, 4, 5, 7, 8, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 1 << 24)
NUMBERS += (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63)
NUMBERS += ((1 << 64) - 1,)
#: The same for a value of JSON.
VALUES = (None, True, False, 0, 1, -1, 2, 3, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"))
VALUES += (10**9, 2**31, 2**63, 10**30, -(10**30), "", "x", "1", "\0", "\ud800", "lstm", "../x")
VALUES += ("nan", "9" * 5000, [], {}, [None], [[]], [1, 2], [1e308] * 3, {"a": 1}, {"": None})
VALUES += ([0] * 1000, "y" * 100_000)


def changed(draw: random.Random, data: bytes, other: bytes, own: tuple[Change, ...]) -> bytes:
    """The bytes after one to three changes; ``own`` are those that know the format."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        if own and draw.random() < 0.5:
            data = draw.choice(own)(draw, data)
        elif draw.random() < 0.05:
            data = _spliced(draw, data, other)
        else:
            data = draw.choice(ANY)(draw, data)
    return data


def _place(draw: random.Random, data: bytes) -> int:
    # The head is where the numbers are that all else depends on.
    most = min(len(data), 64) if draw.random() < 0.3 else len(data)
    return draw.randrange(most + 1)


def _flip(draw: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    at = min(_place(draw, data), len(data) - 1)
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def _overwrite(draw: random.Random, data: bytes) -> bytes:
    at, count = _place(draw, data), draw.choice((1, 1, 2, 4, 16))
    return data[:at] + draw.randbytes(count) + data[at + count :]


def _insert(draw: random.Random, data: bytes) -> bytes:
    at = _place(draw, data)
    return data[:at] + draw.randbytes(draw.choice((1, 2, 4, 8))) + data[at:]


def _insert_token(draw: random.Random, data: bytes) -> bytes:
    at = _place(draw, data)
    return data[:at] + draw.choice(TOKENS) + data[at + draw.choice((0, 0, 1, 4)) :]


def _write_number(draw: random.Random, data: bytes) -> bytes:
    size, order = draw.choice(((1, "B"), (2, "H"), (4, "I"), (8, "Q"))), draw.choice("<>")
    at = _place(draw, data) // size[0] * size[0]
    number = draw.choice(NUMBERS) & (1 << 8 * size[0]) - 1
    return data[:at] + struct.pack(order + size[1], number) + data[at + size[0] :]


def _delete(draw: random.Random, data: bytes) -> bytes:
    at = _place(draw, data)
    return data[:at] + data[at + draw.choice((1, 1, 2, 4, 16, 100)) :]


def _duplicate(draw: random.Random, data: bytes) -> bytes:
    at, count = _place(draw, data), draw.choice((1, 4, 16, 100, 1000))
    return data[: at + count] + data[at:]


def _truncate(draw: random.Random, data: bytes) -> bytes:
    return data[: _place(draw, data)]


def _extend(draw: random.Random, data: bytes) -> bytes:
    return data + draw.choice((b"\0", b"\n", b"\n\n", b"x", draw.randbytes(30), data))


def _spliced(draw: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: _place(draw, data)] + other[_place(draw, other) :]


def _whole(draw: random.Random, data: bytes) -> bytes:
    """Another file altogether: nothing, a pickle that would run code, what is packed or not."""
    pickle = b"cos\nsystem\n(S'false'\ntR."
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
    return draw.choice((b"", b"\n", pickle, packed.getvalue(), gzip.compress(data, mtime=0)))


ANY: tuple[Change, ...] = (_flip, _overwrite, _insert, _insert_token, _insert_token, _write_number)
ANY += (_write_number, _delete, _duplicate, _truncate, _extend)
#: Once in a while.
ANY = ANY * 3 + (_whole,)


# Text


def _lines(draw: random.Random, data: bytes) -> bytes:
    """A line twice, away, in another's place, or empty."""
    lines = data.split(b"\n")
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    kind = draw.randrange(4)
    if kind == 0:
        lines.insert(i, lines[j])
    elif kind == 1:
        del lines[i]
    elif kind == 2:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines[i] = b""
    return b"\n".join(lines)


def _fields(draw: random.Random, data: bytes) -> bytes:
    """Two fields of a file swapped, or one of another kind."""
    parts = re.split(rb"([,\t:; |\n]+)", data)
    i, j = (2 * draw.randrange((len(parts) + 1) // 2) for _ in range(2))
    if draw.random() < 0.5:
        parts[i], parts[j] = parts[j], parts[i]
    else:
        parts[i] = draw.choice(TOKENS)
    return b"".join(parts)


def _numbers(draw: random.Random, data: bytes) -> bytes:
    """A number as another."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
    if not found:
        return data
    at, token = draw.choice(found), draw.choice(TOKENS[21:34])
    return data[: at.start()] + token + data[at.end() :]


def _ends(draw: random.Random, data: bytes) -> bytes:
    return data.replace(b"\n", draw.choice((b"\r\n", b"\r", b"\n\n", b"\n\r", b"\0", b" ")))


def _encoding(draw: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    kind = draw.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "cp500", "utf-8-sig", "utf-7"))
    return text.encode(kind, "replace")


TEXT: tuple[Change, ...] = (_lines, _lines, _fields, _fields, _fields, _numbers, _ends, _encoding)


# JSON


def json_values(draw: random.Random, data: bytes) -> bytes:
    """Another value, or none, in a place of a JSON file."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    places: list[tuple[object, object]] = []
    _places(value, places)
    if not places:
        return data
    for _ in range(draw.choice((1, 1, 2))):
        holder, key = draw.choice(places)
        kind = draw.randrange(6)
        try:
            if kind == 0:
                del holder[key]  # type: ignore[attr-defined]
            elif kind == 1 and isinstance(holder, dict):
                holder[draw.choice(("x", "", "h\0", "A" * 300))] = holder.pop(key)
            elif kind == 2:
                other, where = draw.choice(places)
                holder[key] = other[where]  # type: ignore[index]
            else:
                holder[key] = draw.choice(VALUES)  # type: ignore[index]
            return json.dumps(value, indent=2).encode()
        except (KeyError, IndexError, ValueError):  # changed by the one before; a ring
            continue
    return data


def _places(value: object, found: list[tuple[object, object]]) -> None:
    items = enumerate(value) if isinstance(value, list) else ()
    for key, inner in value.items() if isinstance(value, dict) else items:
        found.append((value, key))
        _places(inner, found)


JSON: tuple[Change, ...] = (json_values, json_values, json_values, _numbers, _fields)


def safetensors_header(draw: random.Random, data: bytes) -> bytes:
    """Another header, with the length that it says."""
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        return data
    change = draw.choice((json_values, json_values, _numbers))
    header = change(draw, data[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


# Packed files


def unpacked(changes: tuple[Change, ...]) -> Change:
    """What a .gz file holds, changed, and packed again."""

    def change(draw: random.Random, data: bytes) -> bytes:
        try:
            inner = gzip.decompress(data)
        except Exception:  # damaged by a change before
            return data
        return gzip.compress(draw.choice(changes)(draw, inner), mtime=0)

    return change


def zip_member(draw: random.Random, data: bytes) -> bytes:
    """A member of a zip file changed, renamed, twice or away; or one that unpacks to 64 MB."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            held = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # damaged by a change before
        return data
    if not held:
        return data
    out, name = io.BytesIO(), draw.choice(sorted(held))
    kind = draw.randrange(6)
    if kind == 0:
        held[draw.choice(("x", "X.npy", "../x.npy", "y", "lengths.npy"))] = held.pop(name)
    elif kind == 1:
        del held[name]
    elif kind == 2:
        held[name] += bytes(1 << 26)
    else:
        held[name] = draw.choice((*ANY, npy_header, npy_header))(draw, held[name])
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for inner, content in held.items():
            archive.writestr(inner, content)
    return out.getvalue()


def npy_header(draw: random.Random, data: bytes) -> bytes:
    """Another type or shape in the head of an array, of the same length."""
    shape = draw.choice(((), (0,), (2**40,), (2**31, 2**31), (-1,), (3, 0, 5), (1,) * 40, (10**9,)))
    descr = draw.choice(("<f8", "|O", "<U9", "<f2", "<i8", ">f4", "|V8", "<M8[us]", "<c16", "|b1"))
    head = f"{{'descr': '{descr}', 'fortran_order': {draw.random() < 0.5}, 'shape': {shape}}}"
    if draw.random() < 0.3:
        head = draw.choice(("{}", "[", "(" * 300, "{'descr': __import__('os')}", head[:-1]))
    length = int.from_bytes(data[8:10], "little")
    return data[:10] + head.encode().ljust(length - 1)[: length - 1] + b"\n" + data[10 + length :]


# One record


#: Bytes that end no field, no line and no text.
PLAIN = b"abcxyz0123456789.-eE_ "


def in_one_record(draw: random.Random, data: bytes, spans: list[slice], binary: bool) -> bytes:
    """Some bytes within one record, which leave all others what and where they are."""
    span = draw.choice(spans)
    for _ in range(draw.choice((1, 2, 5))):
        at = draw.randrange(span.start, span.stop)
        if not binary and data[at : at + 1] not in (bytes([b]) for b in PLAIN):
            continue
        byte = draw.randrange(256) if binary else draw.choice(PLAIN)
        data = data[:at] + bytes([byte]) + data[at + 1 :]
    return data
