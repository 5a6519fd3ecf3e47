import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from elman.data.tracks.boxes import made_tracks, tracks
from elman.errors import DataError, OptionError


def written(path, *rows):
    path.write_text("\n".join(rows) + "\n")
    return path


def test_motchallenge_is_read_by_track_whatever_the_order(tmp_path):
    path = written(
        tmp_path / "gt.txt",
        *("2,7,12,20,30,60,1,-1,-1,-1", "1,7,10,20,30,60,1,-1,-1,-1", ""),
        *("1,8,1.5,2,3,4,0,1,1", "3, 9, 5, 5, 0, 9, 1", "1 3 0 0 1 1"),
    )
    source = tracks([path])
    first, second = source
    assert first.boxes.tolist() == [[10, 20, 30, 60], [12, 20, 30, 60]]
    assert (first.name, first.frame, first.where) == ("7", 1, f"{path}: track 7")
    assert (second.name, len(second.boxes)) == ("3", 1)
    assert source.skipped.counts == {
        "empty line": 1, "box that does not count": 1, "box without width or height": 1,
    }  # fmt: skip


def test_folders_are_searched_for_gt(tmp_path):
    for name in ("b/gt", "a/gt"):
        (tmp_path / name).mkdir(parents=True)
        written(tmp_path / name / "gt.txt", "1,1,0,0,1,1", "2,1,0,0,1,1")
    assert [t.where for t in tracks([tmp_path])] == [
        f"{tmp_path}/a/gt/gt.txt: track 1", f"{tmp_path}/b/gt/gt.txt: track 1",
    ]  # fmt: skip
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"holds no gt\.txt"):
        tracks([tmp_path / "none"])


def test_gaps_are_filled_or_cut_and_counted(tmp_path):
    rows = [f"{t},1,{10 * t},0,10,20" for t in (1, 2, 5, 6, 20, 21)]
    path = written(tmp_path / "gt.txt", *rows)
    source = tracks([path])
    first, second = source
    assert first.boxes[:, 0].tolist() == [10, 20, 30, 40, 50, 60] and second.frame == 20
    assert source.skipped.counts == {
        "missing box filled on a straight line": 2, "gap at which a track is cut": 1,
    }  # fmt: skip
    source = tracks([path], gaps="cut")
    assert [(t.frame, len(t.boxes)) for t in source] == [(1, 2), (5, 2), (20, 2)]
    assert source.skipped.counts == {"gap at which a track is cut": 2}
    assert [len(t.boxes) for t in tracks([path], longest_gap=13)] == [21]
    with pytest.raises(OptionError, match="unknown rule for gaps 'fill'"):
        tracks([path], gaps="fill")


def test_a_step_leaves_out_frames_between(tmp_path):
    path = written(tmp_path / "gt.txt", *(f"{t},1,{t},0,10,20" for t in range(3, 13)))
    (track,) = tracks([path], frame_step=3)
    assert track.boxes[:, 0].tolist() == [3, 6, 9, 12] and track.step == 3


def test_tables_are_read_by_their_usual_or_given_columns(tmp_path):
    wanted = [[1, 2, 3, 4], [2, 2, 3, 4]]
    path = written(
        tmp_path / "a.csv", "frame,track_id,x,y,width,height", "1,p,1,2,3,4", "2,p,2,2,3,4"
    )
    (track,) = tracks([path])
    assert track.boxes.tolist() == wanted and track.name == "p"
    path = written(tmp_path / "b.csv", "f;who;x;y;w;h", "1;p;1;2;3;4", "2;p;2;2;3;4")
    (track,) = tracks([path], delimiter=";", columns={"track": "who", "frame": "f"})
    assert track.boxes.tolist() == wanted
    with pytest.raises(DataError, match="which column is the track.*--track-column"):
        tracks([path], delimiter=";")
    columns = dict(zip("xywh", np.array(wanted).T.tolist(), strict=True))
    pa.parquet.write_table(
        pa.table({"id": [5, 5], "frame": [1, 2], **columns}), tmp_path / "c.parquet"
    )
    (track,) = tracks([tmp_path / "c.parquet"])
    assert track.boxes.tolist() == wanted and track.name == "5"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,1,2", "line 2: must be frame,track,x,y,w,h"),
        ("2,1,a,0,1,1", "line 2: x must be a number, got 'a'"),
        ("2,1,nan,0,1,1", "line 2: x must be a number, got 'nan'"),
        ("1.5,1,0,0,1,1", "line 2: a frame is a whole number"),
        ("1,1,0,0,1,1", "line 2: track 1 has a box in frame 1 already"),
    ],
)
def test_bad_rows_are_named(row, message, tmp_path):
    path = written(tmp_path / "gt.txt", "1,1,0,0,1,1", row)
    with pytest.raises(DataError, match=message):
        list(tracks([path]))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="none.txt"):
        tracks([tmp_path / "none.txt"])
    with pytest.raises(DataError, match="boxes are read from"):
        tracks([written(tmp_path / "a.xml", "<a/>")])


def test_made_tracks_are_the_same_for_a_seed_and_half_of_them_turn():
    first, again = list(made_tracks(20, 3)), list(made_tracks(20, 3))
    assert all(np.array_equal(a.boxes, b.boxes) for a, b in zip(first, again, strict=True))
    assert all((t.boxes[:, 2:] > 0).all() for t in first)

    def bend(track):
        centre = track.boxes[:, :2] + track.boxes[:, 2:] / 2
        middle = (centre[0] + centre[-1]) / 2
        return np.linalg.norm(centre[20] - middle) / np.linalg.norm(centre[-1] - centre[0])

    assert (
        np.median([bend(t) for t in first[::2]]) < 0.05 < np.median([bend(t) for t in first[1::2]])
    )
