import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from elman.data.embedded import embedded_file
from elman.data.images.pictures import (
    from_levels,
    grey_digits,
    is_pictures,
    pictures,
    pixel_order,
    to_levels,
)
from elman.data.series.labelled import labelled_series
from elman.errors import DataError, OptionError


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path):
    """Five pictures of 4 x 6 in an idx file, with their labels beside it."""
    x = np.random.default_rng(0).integers(0, 256, (5, 4, 6)).astype(np.uint8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(5) % 2)))
    return tmp_path / "train-images-idx3-ubyte.gz", x


@pytest.fixture
def photos(tmp_path):
    """A folder for each of two labels, with pictures in colour."""
    draw = np.random.default_rng(1)
    arrays = {}
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(2):
            pixels = draw.integers(0, 256, (4, 6, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
            arrays[label, number] = pixels
    return tmp_path / "photos", arrays


def test_pictures_of_an_idx_file(mnist):
    file, x = mnist
    found = list(pictures([file], labelled=True))
    assert [p.label for p in found] == ["0", "1", "0", "1", "0"]
    assert all((p.pixels[..., 0] == x[i]).all() for i, p in enumerate(found))
    assert found[3].where.endswith("idx3-ubyte.gz: picture 3")
    other = next(iter(pictures([file], size="2x3", colour=True)))
    assert other.pixels.shape == (2, 3, 3)


def test_pictures_of_folders_and_files(photos):
    folder, arrays = photos
    found = list(pictures([folder], labelled=True, colour=True))
    assert [p.label for p in found] == ["cat", "cat", "dog", "dog"]
    assert (found[1].pixels == arrays["cat", 1]).all()
    assert [p.label for p in pictures([folder])] == [""] * 4
    assert next(iter(pictures([folder]))).pixels.shape == (4, 6, 1)
    several = pictures([folder / "dog", folder / "cat"], labelled=True)
    assert [p.label for p in several] == ["dog", "dog", "cat", "cat"]
    files = [folder / "dog" / "1.png", folder / "cat" / "0.png"]
    assert [p.label for p in pictures(files, labelled=True)] == ["dog", "cat"]


def test_bad_files_are_errors_or_counted(photos, tmp_path):
    folder, _ = photos
    (folder / "cat" / "2.png").write_bytes(b"none")
    with pytest.raises(DataError, match=r"2\.png: is no picture .*--skip-bad"):
        list(pictures([folder]))
    source = pictures([folder], skip_bad=True)
    assert len(list(source)) == 4
    assert source.skipped.counts == {"picture that cannot be read": 1}
    (tmp_path / "a.txt").write_text("x")
    for files, message in (
        ([tmp_path / "a.txt"], "pictures are read from folders"),
        ([tmp_path / "none.png"], "no such file"),
        ([], "no file"),
    ):
        with pytest.raises(DataError, match=message):
            pictures(files)
    with pytest.raises(OptionError, match="a size must be"):
        pictures([folder], size="large")


def test_what_holds_pictures_is_known_by_its_name(tmp_path):
    assert all(map(is_pictures, (tmp_path, "a.PNG", "train-images-idx3-ubyte.gz", "a.jpg")))
    assert not any(map(is_pictures, ("a.csv", "a.txt", "a.ts", "a.npz")))


def test_the_embedded_digits_are_pictures():
    found = list(grey_digits(embedded_file("digits.csv.gz")))
    assert len(found) == 1797
    assert {p.pixels.shape for p in found} == {(8, 8, 1)}
    assert found[0].label == "0"
    assert found[0].pixels[0, :, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]


@pytest.mark.parametrize("levels", [2, 3, 16, 256])
def test_levels_are_equally_wide_and_come_back(levels):
    every = np.arange(256).astype(np.uint8)
    x = to_levels(every, levels)
    assert set(x.tolist()) == set(range(levels))
    counts = np.bincount(x)
    assert counts.max() - counts.min() <= 1
    assert (to_levels(from_levels(np.arange(levels), levels), levels) == np.arange(levels)).all()
    if levels == 256:
        assert (from_levels(x, levels) == every).all()


@pytest.mark.parametrize("levels", [2, 4])
def test_drawn_levels_keep_the_mean_and_are_always_the_same(levels):
    pixels = np.full((100, 100, 1), 60, np.uint8)
    x = to_levels(pixels, levels, drawn=True)
    assert (x == to_levels(pixels, levels, drawn=True)).all()
    assert x.mean() == pytest.approx(60 / 255 * (levels - 1), abs=0.02)
    assert len(set(x.ravel().tolist())) == 2
    assert (to_levels(np.full((3, 3, 1), 255, np.uint8), levels, drawn=True) == levels - 1).all()


@pytest.mark.parametrize(("step_size", "shape"), [(None, (4, 6)), (1, (24, 1)), (12, (2, 12))])
def test_pictures_are_series(mnist, step_size, shape):
    file, x = mnist
    found = list(labelled_series([file], step_size=step_size))
    assert {s.values.shape for s in found} == {shape}
    assert (found[2].values.reshape(4, 6) == x[2]).all()
    assert found[2].label == "0"


def test_permuted_pictures_have_one_order(mnist):
    file, x = mnist
    found = [s.values[:, 0] for s in labelled_series([file], step_size=1, permute=5)]
    order = pixel_order(24, 5)
    assert all((v == x[i].ravel()[order]).all() for i, v in enumerate(found))
    assert sorted(order) == list(range(24)) and list(order) != list(range(24))
    again = next(iter(labelled_series([file], step_size=1, permute=6)))
    assert (again.values[:, 0] != found[0]).any()


def test_channels_of_a_pixel_stay_together(photos):
    folder, arrays = photos
    how = {"images": {"colour": True}}
    found = next(iter(labelled_series([folder], step_size=3, permute=1, **how)))
    assert (found.values == arrays["cat", 0].reshape(-1, 3)[pixel_order(24, 1)]).all()
    rows = next(iter(labelled_series([folder], **how)))
    assert rows.values.shape == (4, 18)


def test_what_makes_no_series_is_refused(mnist, photos, tmp_path):
    file, _ = mnist
    folder, _ = photos
    with pytest.raises(DataError, match="--step-size must divide 24"):
        list(labelled_series([file], step_size=5))
    Image.new("L", (3, 3)).save(folder / "dog" / "9.png")
    with pytest.raises(DataError, match=r"9\.png: is 3x3, the first picture 4x6; --size"):
        list(labelled_series([folder]))
    assert len(list(labelled_series([folder], images={"size": "4"}))) == 5
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), y=[0, 1])
    with pytest.raises(DataError, match=r"a\.npz: holds no pictures, and others do"):
        labelled_series([folder, tmp_path / "a.npz"])
    with pytest.raises(OptionError, match="permute is for pictures"):
        labelled_series([tmp_path / "a.npz"], permute=1)
