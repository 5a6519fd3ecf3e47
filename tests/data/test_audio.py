"""Sounds: read, mended and counted; log mel energies whole and in pieces; PCM from a stream."""

import io
import struct

import numpy as np
import pytest
import soundfile

from elman.data.audio.log_mel import LogMel
from elman.data.audio.pcm import pcm_pieces
from elman.data.audio.samples import Sound, first_rate, is_sound, read_sound, sounds_below
from elman.data.core.records import SkipLog
from elman.data.synthetic.tones import PAIRS, RATE, dialled
from elman.errors import DataError, OptionError
from tests.data.sounds import tones


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_files_are_read(tmp_path, suffix):
    x = tones("abc")
    soundfile.write(tmp_path / f"a{suffix}", x, 8000)
    found, rate = read_sound(tmp_path / f"a{suffix}", SkipLog())
    assert rate == 8000 and len(found) == len(x)
    assert np.corrcoef(found, x)[0, 1] > 0.99
    if suffix == ".wav":
        assert np.abs(found - x).max() < 1 / 32000


def test_channels_become_their_mean_and_rates_one_and_both_are_said(tmp_path):
    x = tones("abc", rate=16000)
    soundfile.write(tmp_path / "a.wav", np.stack([x, 0 * x], axis=1), 16000)
    skipped = SkipLog()
    found = Sound(tmp_path / "a.wav", "", "here").samples(8000, skipped)
    assert str(skipped) == (
        "1 x sound of 2 channels mixed to one (first: here); "
        "1 x sound resampled from 16000 to 8000 Hz (first: here)"
    )
    assert len(found) == pytest.approx(len(x) / 2, abs=2)
    # Half as loud, as one of two channels was silent.
    assert found.std() == pytest.approx(x.std() / 2, rel=0.02)


def test_speed_changes_length_and_pitch():
    t = np.arange(8000) / 8000
    sound = Sound((np.sin(2 * np.pi * 400 * t).astype(np.float32), 8000), "", "", speed=1.25)
    found = sound.samples(8000, SkipLog())
    assert len(found) == 6400
    assert np.abs(np.fft.rfft(found)).argmax() * 8000 / len(found) == pytest.approx(500, abs=2)


def test_silence_and_nothing_are_left_out_and_counted():
    skipped = SkipLog()
    for x in (np.zeros(800, np.float32), np.zeros(0, np.float32)):
        assert Sound((x, 8000), "", "here").samples(8000, skipped) is None
    assert skipped.counts == {"silent sound": 1, "sound without samples": 1}


def test_what_is_no_sound_says_which_file_and_what_to_do(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF not really a sound")
    (tmp_path / "b.flac").write_bytes(b"")
    soundfile.write(tmp_path / "nan.wav", np.full(9, np.nan), 8000, subtype="FLOAT")
    for name, why in (
        ("a.wav", "cannot be read as a sound"),
        ("b.flac", "cannot be read as a sound"),
        ("c.wav", "no such file"),
        ("nan.wav", "no numbers"),
    ):
        sound = Sound(tmp_path / name, "", name)
        with pytest.raises(DataError, match=f"{name}.*{why}.*--skip-bad"):
            sound.samples(8000, SkipLog())
        skipped = SkipLog()
        assert sound.samples(8000, skipped, skip_bad=True) is None
        assert skipped.counts == {"sound that cannot be read": 1}
    with pytest.raises(DataError, match="is a folder"):
        read_sound(tmp_path, SkipLog())


def test_a_cut_file_is_no_reason_to_crash(tmp_path):
    soundfile.write(tmp_path / "a.flac", tones("abcabc"), 8000)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    try:
        x, _ = read_sound(tmp_path / "a.flac", SkipLog())
        assert len(x)
    except DataError as error:
        assert "a.flac" in str(error)


def test_sounds_of_a_folder(tmp_path):
    for name in ("b/z.wav", "a.flac", ".hidden.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.name for p in sounds_below(tmp_path)] == ["a.flac", "z.wav"]
    assert is_sound("A.WAV") and not is_sound("a.txt")


def test_the_first_rate_is_that_of_what_can_be_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", tones("a"), 8000)
    bad = Sound(tmp_path / "none.wav", "", "")
    assert first_rate([bad, Sound(tmp_path / "a.wav", "", "")]) == 8000
    assert first_rate([bad]) is None
    assert first_rate([Sound((tones("a"), 11025), "", "")]) == 11025


# Log mel energies


@pytest.mark.parametrize(("frames", "stride"), [(1, 1), (3, 3), (4, 2), (2, 5)])
@pytest.mark.parametrize("size", [1, 37, 80, 1000])
def test_pieces_give_the_numbers_of_the_whole(frames, stride, size):
    features = LogMel(8000, num_mels=20, frames=frames, stride=stride)
    x = tones("abcab")
    stream = features.stream()
    pieces = [stream.push(x[i : i + size]) for i in range(0, len(x), size)]
    whole = features(x)
    assert whole.dtype == np.float32 and len(whole) > 10
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_stacks_are_frames_side_by_side():
    x = tones("abcab")
    plain = LogMel(8000, num_mels=20, frames=1, stride=1)(x)
    stacked = LogMel(8000, num_mels=20, frames=4, stride=3)(x)
    assert len(stacked) == (len(plain) - 4) // 3 + 1
    for u in range(len(stacked)):
        np.testing.assert_array_equal(stacked[u], plain[3 * u : 3 * u + 4].ravel())


def test_a_tone_is_loudest_in_the_band_around_it():
    features = LogMel(16000, num_mels=40, frames=1, stride=1)
    centres = features.centres()
    for band in (5, 15, 25, 35):
        x = 0.5 * np.sin(2 * np.pi * centres[band] * np.arange(8000) / 16000)
        assert set(features(x).argmax(axis=1)) == {band}


def test_twice_as_loud_is_a_number_more():
    features = LogMel(8000, frames=1, stride=1)
    x = tones("abc", seed=3)
    np.testing.assert_allclose(features(x), features(x / 2) + np.log(4), atol=1e-2)


def test_a_short_sound_has_no_step():
    assert LogMel(8000)(np.ones(100, np.float32)).shape == (0, 80)
    assert LogMel(8000)(np.ones(0, np.float32)).shape == (0, 80)
    with pytest.raises(DataError, match="one channel"):
        LogMel(8000)(np.ones((100, 2)))


def test_features_that_make_no_sense():
    for wrong in ({"num_mels": 2}, {"num_mels": 500}, {"step_ms": 30}, {"window_ms": 5000}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            LogMel(8000, **wrong)
    features = LogMel(8000, frames=3)
    assert LogMel.from_json(features.to_json()) == features


# PCM from a stream


def pcm(x):
    return (np.clip(x, -1, 1) * 32767).astype("<i2").tobytes()


def wav(x, rate, channels=1, subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, x, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def test_raw_samples_as_they_come():
    x = tones("ab")
    pieces = list(pcm_pieces(io.BytesIO(pcm(x) + b"\x01"), 8000, 0.01))
    assert {len(piece) for piece in pieces[:-1]} == {80}
    np.testing.assert_allclose(np.concatenate(pieces), x, atol=1e-4)
    assert list(pcm_pieces(io.BytesIO(b""), 8000)) == []


def test_a_header_says_what_follows():
    x = tones("abc", rate=16000)
    found = np.concatenate(list(pcm_pieces(io.BytesIO(wav(x, 16000)), 16000)))
    np.testing.assert_allclose(found, x, atol=1e-4)
    both = np.stack([x, x], axis=1)
    found = np.concatenate(list(pcm_pieces(io.BytesIO(wav(both, 16000)), 8000)))
    assert len(found) == pytest.approx(len(x) / 2, abs=2)


def test_other_kinds_of_wav_are_refused():
    with pytest.raises(DataError, match="16-bit PCM, got 24 bits"):
        list(pcm_pieces(io.BytesIO(wav(tones("a"), 8000, subtype="PCM_24")), 8000))
    with pytest.raises(DataError, match="ends within the header"):
        list(pcm_pieces(io.BytesIO(wav(tones("a"), 8000)[:20]), 8000))
    headless = b"RIFF" + struct.pack("<I", 99) + b"WAVE" + b"data" + struct.pack("<I", 4) + b"abcd"
    with pytest.raises(DataError, match="does not say what it holds"):
        list(pcm_pieces(io.BytesIO(headless), 8000))


# Telephone tones


def test_keys_are_heard_in_their_tones():
    found = list(dialled(20, seed=3))
    assert [keys for _, keys in found] == [keys for _, keys in dialled(20, seed=3)]
    assert {len(keys) for _, keys in found} <= set(range(3, 10))
    for x, keys in found[:5]:
        spectrum = np.abs(np.fft.rfft(x))
        hertz = np.fft.rfftfreq(len(x), 1 / RATE)
        for tone in {tone for key in keys for tone in PAIRS[key]}:
            near = np.abs(hertz - tone) < 0.015 * tone
            assert spectrum[near].max() > 4 * np.median(spectrum)


def small_wav(samples: int, rate: int = 8000, promised: int | None = None) -> bytes:
    data = b"\0\1" * samples
    head = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    size = len(data) if promised is None else promised
    body = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("promised", "noted"), [(None, False), (1600, True), (0xFFFFFFFF, False), (0x7FFFFFFF, False)]
)
def test_a_sound_that_ends_early_is_counted(tmp_path, promised, noted):
    """A length that was not known when the head was written is none that is not kept."""
    file, skipped = tmp_path / "a.wav", SkipLog()
    file.write_bytes(small_wav(8, promised=promised))
    samples, _ = read_sound(file, skipped)
    assert len(samples) == 8
    assert ("before its head says" in str(skipped)) == noted


@pytest.mark.parametrize("rate", [1, 999, 400_001])
def test_a_rate_that_no_sound_has_is_refused(tmp_path, rate):
    """Brought to 16,000 Hz a second of it would fill the memory."""
    file = tmp_path / "a.wav"
    file.write_bytes(small_wav(100, rate))
    with pytest.raises(DataError, match=f"rate is {rate} Hz"):
        read_sound(file, SkipLog())
    with pytest.raises(DataError, match=f"rate is {rate} Hz"):
        list(pcm_pieces(io.BytesIO(small_wav(100, rate)), 16_000))
