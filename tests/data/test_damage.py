"""Damaged files: many made by chance, and those that once were read wrongly or not refused."""

import gzip
import io
import json
import struct
import zipfile

import numpy as np
import pytest
import soundfile
from PIL import Image

from elman.data.audio.samples import read_sound
from elman.data.audio.sound_files import transcribed_sounds
from elman.data.core.files import read_json
from elman.data.core.lines import read_lines
from elman.data.core.records import SkipLog
from elman.data.core.scalers import StandardScaler
from elman.data.images.arrays import image_size, read_image
from elman.data.images.captions import captioned_pictures
from elman.data.images.idx import read_idx
from elman.data.music.rolls import pieces
from elman.data.series.labelled import labelled_series
from elman.data.series.panel import mapped_npy
from elman.data.series.series_files import read_npz
from elman.data.text.labelled import labelled_texts
from elman.data.text.tokenizers import load_tokenizer
from elman.data.tracks.boxes import tracks
from elman.errors import DataError, RunError
from elman.train.metrics import read_metrics
from tests.data import mutations


def test_damaged_files_are_read_right_or_refused():
    report = mutations.run(first=0, files=1500, seed=11)
    assert not report.failures, report.failures[:5]
    assert len(report.counts) > 60
    total = sum(report.counts.values(), mutations.Counter())
    assert total["refused"] > 300 and total["read"] > 300


def test_the_runner_sees_what_it_looks_for(monkeypatch, tmp_path):
    """A reader that hangs, takes too much, runs a pickle, or answers differently is a failure."""
    path = tmp_path / "a"
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    answers = iter(range(9))

    def kind(read):
        return mutations_kind(path, read)

    assert "KeyError" in outcome(kind(lambda f: {}["x"]))
    assert "differs" in outcome(kind(lambda f: [next(answers)]))
    assert "no file is named" in outcome(kind(lambda f: raise_(DataError("a is damaged"))))
    assert outcome(kind(lambda f: raise_(DataError(f"{f}: it is damaged")))) == "refused"
    assert "another record" in outcome(kind(lambda f: [1, 9, ""]), [1, 2, ""], 0)
    assert outcome(kind(lambda f: [1, 9, ""]), [1, 2, ""], 1) == "read"


def mutations_kind(path, read):
    from tests.data.seed_files import Kind

    return Kind("a", path, read)


def outcome(kind, expected=(), record=None):
    found, why = mutations.attempt(kind, mutations.plain(list(expected)), record)
    return why or found


def raise_(error):
    raise error


# Inputs that mattered


def test_utf_16_without_its_mark_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes("text".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"a\.txt: line 1, byte 0 is not UTF-16"):
        list(read_lines(tmp_path / "a.txt", "utf-16"))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_deep_json_is_refused(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunError, match=r"config\.json: cannot be read as JSON \(RecursionError"):
        read_json(tmp_path / "config.json")


def test_an_idx_file_that_claims_gigabytes_takes_none(tmp_path):
    (tmp_path / "a.idx").write_bytes(bytes([0, 0, 14, 2]) + struct.pack(">II", 2**31, 2**31) + b"x")
    with pytest.raises(DataError, match="take 36893488147419103232 bytes, got 1"):
        read_idx(tmp_path / "a.idx")


def test_an_idx_file_of_no_values_that_cannot_be_is_refused(tmp_path):
    sizes = struct.pack(">" + "I" * 64, *[2**32 - 1] * 63, 0)
    (tmp_path / "a.idx").write_bytes(bytes([0, 0, 8, 64]) + sizes)
    with pytest.raises(DataError, match=r"a\.idx: cannot be read as idx"):
        read_idx(tmp_path / "a.idx")


def npz(path, name, head, values=b"", packed=zipfile.ZIP_DEFLATED):
    data = b"\x93NUMPY\x01\0" + struct.pack("<H", len(head) + 1) + head.encode() + b"\n" + values
    with zipfile.ZipFile(path, "w", packed) as archive:
        archive.writestr(name, data)


@pytest.mark.parametrize(
    "head",
    [
        "{'descr': '<M8[us]', 'fortran_order': False, 'shape': (1099511627776,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': __import__('os').name, 'fortran_order': False, 'shape': (1,)}",
        "(" * 300,
        "{}",
    ],
)
def test_heads_of_npz_that_cannot_be_are_refused(head, tmp_path):
    npz(tmp_path / "a.npz", "x.npy", head, b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(DataError, match=r"a\.npz: cannot be read as \.npz") as error:
        list(read_npz(tmp_path / "a.npz"))
    assert " at 0x" not in str(error.value)


def test_a_member_of_npz_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x", b"text")
    with pytest.raises(DataError, match=r"a\.npz: cannot be read as \.npz"):
        list(read_npz(tmp_path / "a.npz"))


def test_npz_packed_as_numpy_does_not_is_refused(tmp_path):
    head = "{'descr': '|u1', 'fortran_order': False, 'shape': (9,)}"
    npz(tmp_path / "a.npz", "x.npy", head, bytes(9), zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match="'x.npy' is packed as np.savez does not"):
        list(read_npz(tmp_path / "a.npz"))


def test_arrays_in_the_order_of_fortran_are_read(tmp_path):
    x = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    np.savez_compressed(tmp_path / "a.npz", x=x, y=np.array(list("abc")))
    series = list(read_npz(tmp_path / "a.npz"))
    assert [(values[:, 0].tolist(), label) for values, label, _ in series] == [
        (row.tolist(), label) for row, label in zip(x, "abc", strict=True)
    ]


def test_a_mapped_array_is_compared_with_its_file(tmp_path):
    np.save(tmp_path / "values.npy", np.zeros(5))
    assert mapped_npy(tmp_path / "values.npy").tolist() == [0] * 5
    data = (tmp_path / "values.npy").read_bytes()
    (tmp_path / "values.npy").write_bytes(data.replace(b"(5,)", b"(9,)"))
    with pytest.raises(RunError, match=r"\[9\] float64 take 200 bytes, got 168"):
        mapped_npy(tmp_path / "values.npy")


def test_midi_that_claims_a_head_of_gigabytes_is_refused(tmp_path):
    (tmp_path / "a.mid").write_bytes(b"MThd\x7f\xff\xff\xff\0\0\0\1")
    with pytest.raises(DataError, match=r"a\.mid: "):
        list(pieces([tmp_path / "a.mid"]))


def test_a_flac_file_that_claims_hours_takes_none(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.sin(np.arange(800) / 9), 8000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[22:26] = b"\x6f\xff\xff\xff"  # the number of samples in the stream's description
    (tmp_path / "a.flac").write_bytes(data)
    try:
        x, _ = read_sound(tmp_path / "a.flac", SkipLog())
        assert len(x) <= 4096
    except DataError as error:
        assert "a.flac: cannot be read as a sound" in str(error)


def test_samples_far_beyond_full_scale_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(9, 1e25), 8000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"a\.wav: holds samples that are no numbers, or far"):
        read_sound(tmp_path / "a.wav", SkipLog())


def test_what_merely_holds_frames_of_mp3_is_no_sound(tmp_path):
    soundfile.write(tmp_path / "a.mp3", np.sin(np.arange(8000) / 9), 8000)
    (tmp_path / "a.wav").write_bytes(b"PK\x03\x04" + (tmp_path / "a.mp3").read_bytes())
    assert len(read_sound(tmp_path / "a.mp3", SkipLog())[0]) >= 8000
    with pytest.raises(DataError, match=r"a\.wav: cannot be read as a sound"):
        read_sound(tmp_path / "a.wav", SkipLog())


@pytest.mark.parametrize("suffix", ["jpg", "tiff", "webp"])
@pytest.mark.parametrize("orientation", [1, 6, 0x106])
def test_the_size_of_a_turned_picture_is_that_which_is_read(suffix, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (12, 9)).save(tmp_path / f"a.{suffix}", exif=exif)
    assert read_image(tmp_path / f"a.{suffix}").shape[:2] == image_size(tmp_path / f"a.{suffix}")


def test_captions_that_are_no_texts_are_refused(tmp_path):
    images = [{"id": 1, "file_name": "a.png"}]
    for note in ({"image_id": {}, "caption": "x"}, {"image_id": 1, "caption": 7}):
        notes = [{"image_id": 1, "caption": "a dog"}, note]
        text = json.dumps({"images": images, "annotations": notes})
        (tmp_path / "captions.json").write_text(text)
        with pytest.raises(DataError, match=r"captions\.json: "):
            list(captioned_pictures([tmp_path / "captions.json"], skip_bad=True))


def test_a_name_that_no_file_can_have_is_that_of_none(tmp_path):
    for name in ("a" * 5000, "a\0b"):
        (tmp_path / "x.trans.txt").write_text(f"{name} ONE\n")
        with pytest.raises(DataError, match="there is no sound"):
            list(transcribed_sounds([tmp_path / "x.trans.txt"]))


def test_a_box_that_no_float_tells_from_its_neighbours_is_refused(tmp_path):
    (tmp_path / "gt.txt").write_text("1,1,1e300,2,3,4\n")
    with pytest.raises(DataError, match="line 1: x must be a number"):
        list(tracks([tmp_path / "gt.txt"]))


@pytest.mark.parametrize("row", ["1,2,3,4", '1,"2\n', "x,0,1", "1,0,\xff"])
def test_damaged_metrics_are_refused(row, tmp_path):
    (tmp_path / "metrics.csv").write_text(f"step,epoch,seconds\n{row}\n", encoding="latin-1")
    with pytest.raises(RunError, match=r"metrics\.csv: cannot be read as metrics"):
        read_metrics(tmp_path / "metrics.csv")


@pytest.mark.parametrize(
    "value",
    [
        {"mean": [0.0], "deviation": [0.0]},
        {"mean": [0.0, 1.0], "deviation": [1.0]},
        {"mean": ["0"], "deviation": [1.0]},
        {"mean": [float("nan")], "deviation": [1.0]},
        {"mean": [0.0]},
        None,
    ],
)
def test_scales_that_cannot_be_are_refused(value):
    with pytest.raises(ValueError):
        StandardScaler.from_json(value)


@pytest.mark.parametrize("symbols", [["a", 1], "ab", ["a", "a"], None])
def test_units_that_are_no_texts_are_refused(symbols, tmp_path):
    text = json.dumps({"unit": "word", "symbols": symbols})
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(RunError, match=r"tokenizer\.json: cannot be read as a tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_zip_bomb_takes_no_more_than_it_unpacks_to(tmp_path):
    out = io.BytesIO()
    np.savez_compressed(out, x=np.zeros((2, 1 << 22), np.uint8), y=np.array(["a", "b"]))
    (tmp_path / "a.npz").write_bytes(out.getvalue())
    assert len(out.getvalue()) < 50_000
    assert [len(values) for values, _, _ in read_npz(tmp_path / "a.npz")] == [1 << 22] * 2


def test_mp3_that_promises_billions_of_samples_takes_no_memory(tmp_path):
    soundfile.write(tmp_path / "a.mp3", np.sin(np.arange(2000) / 9), 8000)
    data = (tmp_path / "a.mp3").read_bytes()
    at = data.index(b"Xing") + 8  # the number of frames
    (tmp_path / "a.mp3").write_bytes(data[:at] + b"\x00\x9d\x00\x04" + data[at + 4 :])
    with pytest.raises(DataError, match=r"a\.mp3: .*more samples than \d+ bytes can hold"):
        read_sound(tmp_path / "a.mp3", SkipLog())


@pytest.mark.parametrize("cut", [-20, -9])
def test_gzip_that_is_damaged_and_no_utf_8_is_refused(cut, tmp_path):
    data = gzip.compress("text,label\ncaf\xe9,a\n".encode("latin-1"))
    (tmp_path / "a.csv.gz").write_bytes(data[:cut] + b"\0\0\0\0" + data[cut + 4 :])
    with pytest.raises(DataError, match=r"a\.csv\.gz: "):
        list(labelled_texts([tmp_path / "a.csv.gz"]))


@pytest.mark.parametrize("code", [0x110000, 0xFFFFFFFF, 0xD800])
def test_labels_of_npz_that_are_no_characters_are_refused(code, tmp_path):
    y = np.array(["a", "b"])
    y.view("u4")[1] = code
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), y=y)
    with pytest.raises(DataError, match="holds what is no character"):
        list(read_npz(tmp_path / "a.npz"))


def test_a_mat_file_that_ended_the_process_of_its_reader_is_refused(tmp_path):
    """A cell whose array says that it has more bytes than there are."""
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
    flags = struct.pack("<4I", 6, 8, 6, 0)
    sizes, name = struct.pack("<2I2i", 5, 8, 12, 88), struct.pack("<2I", 1, 1) + b"a".ljust(8)
    for size in (0x7FFFFFF0, 8 * 12 * 88 + 8, 7):
        array = flags + sizes + name + struct.pack("<2I", 9, size) + bytes(8 * 12 * 88)
        data = head + struct.pack("<2I", 14, len(array)) + array
        (tmp_path / "a.mat").write_bytes(data)
        with pytest.raises(DataError, match=r"a\.mat: cannot be read as \.mat"):
            list(pieces([tmp_path / "a.mat"]))


def test_whole_numbers_that_no_float_holds_are_refused(tmp_path):
    for row in ({"x": [1, 10**400], "label": "a"}, {"x": 10**400, "label": "a"}):
        (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(DataError, match=r"a\.jsonl: line 1: .*infinite"):
            list(labelled_series([tmp_path / "a.jsonl"]))


def test_a_number_too_far_from_those_of_training_is_refused():
    scale = StandardScaler((0.0,), (1e-6,))
    assert scale(np.array([[1e30]])).tolist() == [[np.float32(1e36)]]
    with pytest.raises(DataError, match="1e\\+35 is too far from the numbers of the training"):
        scale(np.array([[1e35]]))


def test_a_key_without_a_name_is_refused(tmp_path):
    (tmp_path / "a.ts").write_text("@problemName a\n@\n@classLabel true x y\n@data\n1,2:x\n")
    with pytest.raises(DataError, match=r"line 2: is a key \(@\) without a name"):
        list(labelled_series([str(tmp_path / "a.ts")]))
