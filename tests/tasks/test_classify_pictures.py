import gzip
import json
import struct

import numpy as np
import pytest
from PIL import Image

SMALL = [
    *("--hidden", 8, "--batch-size", 8, "--threads", 1, "--learning-rate", 0.03),
    *("--steps", 60, "--validate-every", 30, "--pooling", "mean", "--no-bidirectional"),
]


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist(tmp_path):
    """Dark and bright pictures of 4 x 3, to train on and to test on."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        y = np.arange(count) % 2
        x = draw.integers(0, 100, (count, 4, 3)) + 120 * y[:, None, None]
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(x))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(y))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "steps"),
    [([], "3 numbers a step"), (["--step-size", 1, "--permute", 1], "1 numbers a step")],
)
def test_idx_files_are_classified_by_rows_and_by_pixels(options, steps, elman, mnist):
    files = ["train-images-idx3-ubyte.gz", "--test", "t10k-images-idx3-ubyte.gz"]
    done = elman("train", "classify", *files, *SMALL, *options, "--out", "run")
    assert done.code == 0, done.err
    assert steps in done.out
    scores = json.loads((mnist / "run/scores.json").read_text())
    assert scores["part"] == "test" and scores["accuracy"] >= 0.95
    (mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    done = elman("predict", "run", "--file", "t10k-images-idx3-ubyte.gz", "--json")
    labels = [json.loads(line)["label"] for line in done.out.splitlines()]
    assert np.mean([label == str(i % 2) for i, label in enumerate(labels)]) >= 0.95


def test_idx_files_are_written_row_by_row(elman, mnist):
    more = ["--hidden", 8, "--latent", 2, "--steps", 3, "--importance", 2, "--threads", 1]
    done = elman("train", "generate", "train-images-idx3-ubyte.gz", *more, "--out", "run")
    assert done.code == 0, done.err
    assert (mnist / "run/samples.png").is_file()


def test_a_folder_for_each_label_in_any_size_with_a_bad_file(elman, tmp_path):
    draw = np.random.default_rng(0)
    for label, colour in (("red", 0), ("blue", 2)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            pixels = draw.integers(0, 100, (5, 6 + number % 2, 3))
            pixels[..., colour] += 150
            file = tmp_path / "photos" / label / f"{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    (tmp_path / "photos" / "blue" / "00.png").write_bytes(b"none")
    more = [*SMALL, "--out", "run"]
    done = elman("train", "classify", "photos", *more)
    assert done.code == 1 and "--skip-bad" in done.err
    more += ["--skip-bad", "--force"]
    done = elman("train", "classify", "photos", *more)
    assert done.code == 1 and "--size" in done.err
    done = elman("train", "classify", "photos", *more, "--size", "4x5", "--colour")
    assert done.code == 0, done.err
    assert "15 numbers a step" in done.out and "1 x picture that cannot be read" in done.out
    assert json.loads((tmp_path / "run/scores.json").read_text())["accuracy"] == 1
    done = elman("predict", "run", "--file", "photos/blue")
    assert [line.split()[0] for line in done.out.splitlines()] == ["blue"] * 20
