import mido
import numpy as np
import pytest
from mido import Message, MetaMessage, MidiFile, MidiTrack

from elman.data.core.records import SkipLog
from elman.data.music.midi import LOWEST, read_midi, write_midi
from elman.data.music.rolls import parts_of, pieces
from elman.data.synthetic.tunes import tunes
from elman.errors import DataError

ON, OFF = "note_on", "note_off"


def saved(path, *tracks, kind=1, ticks=480):
    """A MIDI file of tracks, each a list of messages."""
    MidiFile(type=kind, ticks_per_beat=ticks, tracks=[MidiTrack(t) for t in tracks]).save(path)
    return path


def note(kind, key, time, channel=0, velocity=64):
    return Message(kind, note=key, time=time, channel=channel, velocity=velocity)


def read(path, steps=4):
    """The rolls of a file as frames of MIDI keys, and what was skipped."""
    skipped = SkipLog()
    rolls = read_midi(path, steps, skipped)
    return [[(np.flatnonzero(f) + LOWEST).tolist() for f in roll] for roll in rolls], skipped


def test_what_is_written_is_read_again(tmp_path):
    for steps in (2, 7):
        for name, roll in tunes(6, seed=0):
            write_midi(tmp_path / "a.mid", roll, steps, 90)
            [again] = read_midi(tmp_path / "a.mid", steps, SkipLog())
            assert name and np.array_equal(again, roll)


def test_a_tempo_change_does_not_move_the_grid(tmp_path):
    tempo = [MetaMessage("set_tempo", tempo=t, time=100) for t in (10**6, 10**5)]
    track = [note(ON, 60, 480), *tempo, note(OFF, 60, 280), note(ON, 64, 0), note(OFF, 64, 240)]
    [frames], _ = read(saved(tmp_path / "a.mid", track))
    assert frames == [[60]] * 4 + [[64]] * 2  # silence before the first note is left out


def test_overlapping_notes_of_one_key_sound_until_both_have_ended(tmp_path):
    track = [
        note(ON, 60, 0), note(ON, 60, 240), note(OFF, 60, 240), note(OFF, 60, 240),
        note(ON, 62, 0), note(ON, 62, 120, velocity=0),
    ]  # fmt: skip
    [frames], skipped = read(saved(tmp_path / "a.mid", track))
    assert frames == [[60]] * 6 + [[62]] and not skipped.total


def test_a_note_without_end_ends_at_once_and_is_counted(tmp_path):
    track = [note(ON, 60, 0), note(ON, 64, 0), note(OFF, 64, 480), note(OFF, 99, 0)]
    [frames], skipped = read(saved(tmp_path / "a.mid", track))
    assert frames == [[60, 64], [64], [64], [64]]
    assert skipped.counts == {"note without an end": 1}


def test_notes_are_rounded_to_the_nearest_frame_and_last_one_at_least(tmp_path):
    track = [note(ON, 60, 0), note(OFF, 60, 10), note(ON, 62, 115), note(OFF, 62, 230)]
    [frames], _ = read(saved(tmp_path / "a.mid", track))
    assert frames == [[60], [62], [62]]


def test_tracks_and_channels_are_one_roll_and_drums_are_left_out(tmp_path):
    first = [note(ON, 60, 0), note(OFF, 60, 480)]
    second = [note(ON, 72, 240, channel=3), note(ON, 36, 0, channel=9), note(OFF, 72, 240, 3)]
    low = [note(ON, 5, 0), note(OFF, 5, 120)]
    for kind in (0, 1):
        tracks = [first, second, low]
        if kind == 0:
            tracks = [mido.merge_tracks([MidiTrack(t) for t in tracks])]
        [frames], skipped = read(saved(tmp_path / "a.mid", *tracks, kind=kind))
        assert frames == [[60], [60], [60, 72], [60, 72]]
        assert skipped.counts == {"note of drums left out": 1, "note that a piano has not": 1}


def test_the_tracks_of_type_2_are_pieces(tmp_path):
    first, second = ([note(ON, k, 0), note(OFF, k, 120)] for k in (60, 62))
    found, _ = read(saved(tmp_path / "a.mid", first, [MetaMessage("text")], second, kind=2))
    assert found == [[[60]], [[62]]]


def test_running_status_is_read(tmp_path):
    events = bytes([0, 0x90, 60, 64, 120, 60, 0, 0, 62, 64, 120, 62, 0, 0, 0xFF, 0x2F, 0])
    head = b"MThd" + bytes([0, 0, 0, 6, 0, 0, 0, 1, 0, 120])
    (tmp_path / "a.mid").write_bytes(head + b"MTrk" + len(events).to_bytes(4, "big") + events)
    assert read(tmp_path / "a.mid", 1)[0] == [[[60], [62]]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no midi at all", "cannot be read as MIDI"),
        (b"MThd" + bytes([0, 0, 0, 6, 0, 0, 0, 1, 0, 120]), "cannot be read as MIDI"),
        (b"MThd" + bytes([0, 0, 0, 6, 0, 0, 0, 0, 0xE8, 40]), "SMPTE"),
    ],
)
def test_damaged_midi_is_named(data, message, tmp_path):
    (tmp_path / "bad.mid").write_bytes(data)
    with pytest.raises(DataError, match=rf"bad\.mid: .*{message}"):
        read_midi(tmp_path / "bad.mid", 4, SkipLog())
    source = pieces([tmp_path / "bad.mid"], skip_bad=True)
    assert not list(source) and source.skipped.counts == {"file that cannot be read": 1}


def test_a_file_of_too_many_frames_is_refused(tmp_path):
    track = [note(ON, 60, 0), note(OFF, 60, 2**27), note(ON, 60, 2**27), note(OFF, 60, 1)]
    saved(tmp_path / "a.mid", track, ticks=1)
    with pytest.raises(DataError, match="more than any piece"):
        read_midi(tmp_path / "a.mid", 4, SkipLog())


def test_folders_are_read_in_the_order_of_names_and_may_have_parts(tmp_path):
    for name in ("train/b.mid", "train/deep/a.MID", "valid/c.mid", "loose.mid"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        saved(path, [note(ON, 60, 0), note(OFF, 60, 480)])
    saved(tmp_path / "train" / "empty.mid", [])
    assert parts_of(tmp_path) == {"train", "valid"}
    assert parts_of(tmp_path / "train") == set()
    source = pieces([tmp_path], "train")
    names = [piece.where.removeprefix(str(tmp_path)) for piece in source]
    assert names == ["/train/b.mid", "/train/deep/a.MID"]
    assert source.skipped.counts == {"file without a note": 1}
    assert len(list(pieces([tmp_path]))) == 4
    with pytest.raises(DataError, match="has no test part, it has train, valid"):
        list(pieces([tmp_path], "test"))


def test_arrays_of_matlab_are_parts(tmp_path):
    savemat = pytest.importorskip("scipy.io").savemat
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = np.eye(3, 88), np.eye(5, 88, 7)
    savemat(tmp_path / "a.mat", {"traindata": cells, "testdata": np.eye(4, 88)})
    assert parts_of(tmp_path / "a.mat") == {"train", "test"}
    found = list(pieces([tmp_path / "a.mat"], "train"))
    assert [len(p.roll) for p in found] == [3, 5] and found[1].roll[0, 7] == 1
    assert found[1].where.endswith("a.mat: traindata, piece 2")
    assert [len(p.roll) for p in pieces([tmp_path / "a.mat"], "test")] == [4]
    (tmp_path / "bad.mat").write_bytes(b"\x00" * 300)
    with pytest.raises(DataError, match=r"bad\.mat: cannot be read as \.mat"):
        list(pieces([tmp_path / "bad.mat"]))


def test_arrays_of_numpy(tmp_path):
    wide = np.zeros((4, 128))
    wide[:, 60], wide[:, 2] = 0.7, 1
    np.savez(tmp_path / "a.npz", one=np.eye(3, 88), two=wide)
    source = pieces([tmp_path / "a.npz"])
    first, second = source
    assert first.roll.shape == (3, 88) and second.roll.shape == (4, 88)
    assert np.flatnonzero(second.roll[0]).tolist() == [60 - LOWEST]
    assert source.skipped.counts == {"frame of a note that a piano has not": 4}
    np.savez(tmp_path / "b.npz", x=np.ones((2, 6, 88)), lengths=np.array([6, 0]))
    source = pieces([tmp_path / "b.npz"])
    assert [len(p.roll) for p in source] == [6]
    assert source.skipped.counts == {"piece without a frame": 1}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 7)), r"must be numbers \[T, 88\] or \[T, 128\], got float64 \[3, 7\]"),
        (np.zeros((128, 7)), "transpose it"),
        (np.full((3, 88), np.nan), "not finite"),
        (np.array([{}, {}], dtype=object), "plain arrays"),
    ],
)
def test_arrays_that_are_no_rolls_are_named(array, message, tmp_path):
    np.savez(tmp_path / "a.npz", odd=array)
    with pytest.raises(DataError, match=message):
        list(pieces([tmp_path / "a.npz"]))


def test_what_is_no_music_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("la la la")
    with pytest.raises(DataError, match="music is read from"):
        pieces([tmp_path / "a.txt"])
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no MIDI file"):
        list(pieces([tmp_path / "none"]))
