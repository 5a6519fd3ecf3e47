import gzip
import struct

import numpy as np
import pytest

from elman.data.images.idx import is_idx, read_idx, read_idx_images, read_idx_labels
from elman.errors import DataError

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array):
    array = np.asarray(array)
    code = CODES[array.dtype.str[1:]]
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return (
        bytes([0, 0, code, array.ndim])
        + sizes
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_array_is_what_was_written(kind, suffix, tmp_path):
    array = np.random.default_rng(0).integers(0, 100, (3, 4, 5)).astype(kind)
    file = tmp_path / f"a-idx3-ubyte{suffix}"
    file.write_bytes(gzip.compress(idx(array)) if suffix else idx(array))
    found = read_idx(file)
    assert found.dtype == array.dtype and found.dtype.isnative
    assert (found == array).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG", "is no idx file"),
        (b"\0\0\x08", "is no idx file"),
        (b"\0\0\x08\x03\0\0", "ends inside its head"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], r"\[2, 3\] values take 6 bytes, got 5"),
        (idx(np.zeros((2, 3), np.uint8)) + b"x", "got more than 6"),
        (b"\0\0\x0e\x03" + b"\xff" * 13, "its head is damaged|values take"),
    ],
)
def test_what_is_no_whole_file_is_refused(content, message, tmp_path):
    (tmp_path / "a.idx").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "a.idx")


def test_a_damaged_gzip_is_refused(tmp_path):
    whole = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (9, 9)).astype("u1")))
    (tmp_path / "a.idx.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match="cannot be read as idx .Compressed file ended"):
        read_idx(tmp_path / "a.idx.gz")


def test_labels_stand_beside_their_pictures(tmp_path):
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(idx(np.zeros((2, 3, 3), np.uint8))))
    assert read_idx_images(file).shape == (2, 3, 3)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz, must stand beside it"):
        read_idx_labels(file, 2)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.array([7, 1], np.uint8)))
    assert read_idx_labels(file, 2) == ["7", "1"]
    with pytest.raises(DataError, match="for each of 3 pictures"):
        read_idx_labels(file, 3)
    with pytest.raises(DataError, match="pictures are bytes"):
        read_idx_images(tmp_path / "train-labels-idx1-ubyte")


def test_idx_files_are_known_by_their_names():
    for name in ("train-images-idx3-ubyte.gz", "t10k-images.idx3-ubyte", "a.idx", "a.idx3.gz"):
        assert is_idx(name), name
    for name in ("a.png", "midx.csv", "idx.csv", "a-idx3-ubyte.zip"):
        assert not is_idx(name), name
