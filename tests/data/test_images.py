import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from elman.data.core.records import SkipLog
from elman.data.images.arrays import (
    find_images,
    find_labelled_images,
    image_size,
    parse_size,
    read_image,
    readable_image,
    write_sheet,
)
from elman.errors import DataError, OptionError

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def saved(tmp_path, array, name="a.png", mode=None, **how):
    Image.fromarray(np.asarray(array, dtype=np.uint8), mode).save(tmp_path / name, **how)
    return tmp_path / name


def halves(height=4, width=8):
    """Red on the left, blue on the right."""
    array = np.zeros((height, width, 3))
    array[:, : width // 2], array[:, width // 2 :] = RED, BLUE
    return array


def test_a_picture_comes_as_it_is(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (3, 5, 3))
    found = read_image(saved(tmp_path, array))
    assert found.dtype == np.uint8
    assert (found == array).all()
    grey = read_image(saved(tmp_path, array), mode="grey")
    assert grey.shape == (3, 5, 1)
    assert abs(grey[..., 0] - array @ [0.299, 0.587, 0.114]).max() <= 1


def test_another_shape_is_cropped_padded_or_stretched(tmp_path):
    file = saved(tmp_path, halves(4, 16))
    cropped, padded, stretched = (
        read_image(file, (4, 4), fit=fit) for fit in ("crop", "pad", "stretch")
    )
    assert {a.shape for a in (cropped, padded, stretched)} == {(4, 4, 3)}
    assert (cropped[:, 0] == RED).all() and (cropped[:, 3] == BLUE).all()
    assert (padded != WHITE).any(axis=-1).sum() == 4  # one row of four
    assert (stretched[:, 0] == RED).all() and (stretched[:, 3] == BLUE).all()
    assert (read_image(file, (4, 16)) == halves(4, 16)).all()


def test_what_is_transparent_lies_over_white(tmp_path):
    array = np.zeros((1, 3, 4))
    array[0] = [(*RED, 255), (*RED, 0), (0, 0, 0, 128)]
    found = read_image(saved(tmp_path, array))
    assert found[0, :2].tolist() == [list(RED), list(WHITE)]
    assert abs(int(found[0, 2, 0]) - 127) <= 1
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    palette.putpalette([*RED, *BLUE])
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png").tolist() == [[list(WHITE), list(BLUE)]]
    Image.fromarray(np.array([[7, 200]], dtype=np.uint8)).save(tmp_path / "g.png", transparency=7)
    assert read_image(tmp_path / "g.png", mode="grey").ravel().tolist() == [255, 200]


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter to the right
    file = saved(tmp_path, halves(16, 32), "a.jpg", exif=exif, quality=95)
    found = read_image(file).astype(int)
    assert found.shape == (32, 16, 3)
    assert found[2, 8, 0] > 200 and found[2, 8, 2] < 60  # what was left is above
    assert found[30, 8, 2] > 200
    assert read_image(file, (8, 4)).shape == (8, 4, 3)


def test_sixteen_bits_one_bit_cmyk_and_animations(tmp_path):
    deep = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", mode="grey").ravel().tolist() == [0, 0, 1, 255]
    (tmp_path / "deep.pgm").write_bytes(b"P5 2 1 65535\n\x00\x00\xff\xff")
    assert read_image(tmp_path / "deep.pgm", mode="grey").ravel().tolist() == [0, 255]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bit.png")
    assert read_image(tmp_path / "bit.png").tolist() == [[[255] * 3, [0] * 3]]
    Image.new("CMYK", (2, 2), (0, 0, 0, 0)).save(tmp_path / "c.tif")
    assert (read_image(tmp_path / "c.tif") == 255).all()
    frames = [Image.new("RGB", (2, 2), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "a.gif") == RED).all()


def bomb():
    """A PNG of 20,000 x 20,000 pixels by its head."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def damaged():
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(
        out, "PNG"
    )
    return out.getvalue()[:5000]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no picture", "a.png: is no picture of a kind that Pillow reads"),
        (b"", "a.png: the file is empty"),
        (damaged(), r"a.png: cannot be read as a picture \("),
        (bomb(), "a.png: has too many pixels"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_its_name_or_counted(content, message, tmp_path):
    file, skipped = tmp_path / "a.png", SkipLog()
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_image(file)
    with pytest.raises(DataError, match="--skip-bad"):
        readable_image(file, skipped)
    assert readable_image(file, skipped, skip_bad=True) is None
    assert skipped.counts == {"picture that cannot be read": 1}
    assert skipped.first["picture that cannot be read"] == str(file)


def test_numbers_without_a_range_and_wrong_options_are_refused(tmp_path):
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"f.tif: .*no known range"):
        read_image(tmp_path / "f.tif")
    for how in ({"mode": "gray"}, {"fit": "cut"}, {"size": (0, 3)}):
        with pytest.raises(OptionError):
            read_image(tmp_path / "f.tif", **how)


def test_pictures_are_found_in_order(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "a/deep/3.png", "a/.hidden.png", "a/notes.txt", "a/0.gif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in find_images(tmp_path / "b")] == ["1.png", "2.JPG"]
    assert [p.name for p in find_images(tmp_path / "a")] == ["0.gif"]
    assert [p.name for p in find_images(tmp_path, deep=True)] == [
        "0.gif",
        "3.png",
        "1.png",
        "2.JPG",
    ]
    found = [(p.name, label) for p, label in find_labelled_images(tmp_path)]
    assert found == [("0.gif", "a"), ("3.png", "a"), ("1.png", "b"), ("2.JPG", "b")]
    for call, folder, message in (
        (find_images, tmp_path, "holds no picture"),
        (find_images, tmp_path / "none", "no such folder"),
        (find_images, tmp_path / "a/0.gif", "is no folder"),
        (find_labelled_images, tmp_path / "b", "a folder of pictures for each label"),
    ):
        with pytest.raises(DataError, match=message):
            call(folder)


def test_a_sheet_shows_each_picture_in_its_place(tmp_path):
    first, second = np.zeros((2, 3), np.uint8), np.full((2, 3, 3), RED, np.uint8)
    write_sheet(tmp_path / "sheet.png", [[first, None], [second]], zoom=2, gap=1)
    sheet = read_image(tmp_path / "sheet.png")
    assert sheet.shape == (2 * 5 + 1, 2 * 7 + 1, 3)
    assert (sheet[1:5, 1:7] == 0).all()
    assert (sheet[6:10, 1:7] == RED).all()
    assert (sheet[1:5, 8:14] == sheet[0, 0]).all()
    with pytest.raises(OptionError, match=r"\.png"):
        write_sheet(tmp_path / "sheet.jpg", [[first]])
    with pytest.raises(OptionError, match="no picture"):
        write_sheet(tmp_path / "sheet.png", [])


def test_sizes_are_one_number_or_two():
    assert parse_size("28") == (28, 28)
    assert parse_size(" 24x32 ") == (24, 32)
    for wrong in ("", "0", "3x", "3x4x5", "-3", "a"):
        with pytest.raises(OptionError, match="a size must be"):
            parse_size(wrong)


def test_no_other_program_is_run_to_read_a_picture(tmp_path, monkeypatch):
    """Pillow hands PostScript to Ghostscript, whatever the name of the file."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\necho 10.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    file = tmp_path / "a.png"
    file.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(DataError, match="no picture"):
        read_image(file)
    assert image_size(file) is None
    assert not (tmp_path / "ran").exists()
