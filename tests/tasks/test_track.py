import io
import json
import sys

import numpy as np
import pytest
import torch

import elman as library
from elman.tasks.track.scores import errors, overlap
from elman.tasks.track.task import Tracking, mirrored, shortened

SMALL = [
    *("--observe", 4, "--predict", 3, "--hidden", 8, "--batch-size", 16, "--threads", 1),
    *("--validate-every", 1000, "--learning-rate", 0.02, "--out", "run"),
]


@pytest.fixture
def circles(tmp_path):
    """Tracks that turn at one rate, and one that is too short."""
    rows = ["1,99,0,0,5,5,1", "2,99,0,0,5,5,1"]
    for track in range(8):
        for t in range(16):
            angle = 0.2 * t + track
            x, y = 100 + 40 * np.cos(angle), 100 + 40 * np.sin(angle)
            rows.append(f"{t + 1},{track},{x:.3f},{y:.3f},20,50,1,-1,-1,-1")
    path = tmp_path / "gt.txt"
    path.write_text("\n".join(rows) + "\n")
    return path


def lines(done):
    assert done.code == 0, done.err
    return done.out.removesuffix("\n").split("\n")


@pytest.mark.parametrize("decoder", ["direct", "recurrent"])
def test_turns_are_learnt_scored_told_and_streamed(decoder, elman, circles, tmp_path, monkeypatch):
    given = ["train", "track", circles, *SMALL, "--steps", 120, "--decoder", decoder]
    done = elman(*given, "--valid", circles, "--velocity-steps", 2, "--mirror", 0)
    assert done.code == 0, done.err
    assert "1 x track of less than 7 boxes" in done.out and "mean velocity: ade" in done.out
    run = tmp_path / "run"
    scores = json.loads((run / "scores.json").read_text())
    assert scores["examples"] == 80
    assert scores["ade_pixels"] < 0.3 * scores["baseline"]["ade_pixels"]
    assert scores["iou"] > scores["baseline"]["iou"] > scores["baseline"]["last_box"]["iou"]
    assert (run / "tracks.png").read_bytes().startswith(b"\x89PNG")

    found = json.loads(lines(elman("eval", "run", circles, "--json"))[0])
    assert found["ade_pixels"] == pytest.approx(scores["ade_pixels"])
    told = [
        json.loads(line) for line in lines(elman("predict", "run", "--file", circles, "--json"))
    ]
    assert [t["track"] for t in told] == ["99", *map(str, range(8))]
    assert told[1]["frame"] == 16
    x = 100 + 40 * np.cos(0.2 * np.arange(16, 19))
    assert np.array(told[1]["boxes"])[:, 0] == pytest.approx(x, abs=1.5)

    boxes = [line.split(",")[2:6] for line in circles.read_text().split("\n")[2:7]]
    text = "; ".join(" ".join(box) for box in boxes)
    [whole, nothing] = lines(elman("predict", "run", text, "", "--json"))
    assert json.loads(nothing)["left_out"]
    piped = "\n".join([*map(" ".join, boxes), "", " ".join(boxes[0])]) + "\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped.encode())))
    streamed = [json.loads(line) for line in lines(elman("predict", "run", "--stream", "--json"))]
    assert len(streamed) == 6
    assert np.allclose(streamed[4]["boxes"], json.loads(whole)["boxes"], atol=1e-2)
    assert np.allclose(streamed[5]["boxes"], streamed[0]["boxes"])


def test_an_lstm_streams_too(elman, circles, monkeypatch):
    given = [*SMALL, "--steps", 5, "--valid", circles, "--cell", "lstm", "--layers", 2]
    assert elman("train", "track", circles, *given, "--decoder", "recurrent").code == 0
    piped = "10 10 5 9\n11 10 5 9\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped.encode())))
    streamed = lines(elman("predict", "run", "--stream"))
    [whole] = lines(elman("predict", "run", "10 10 5 9; 11 10 5 9"))
    assert streamed[1] == whole


def test_scores_are_those_of_the_boxes():
    wanted = torch.tensor([[[10.0, 10, 4, 4]], [[20, 20, 4, 4]]])
    found = wanted + torch.tensor([[[3.0, 4, 0, 0]], [[2, 0, 0, 0]]])
    assert errors(found, wanted) == {
        "away": 3.5, "away_last": 2.0, "overlap": pytest.approx((1 / 3) / 2), "windows": 1.0,
    }  # fmt: skip
    assert overlap(torch.tensor([0.0, 0, -3, 2]), torch.tensor([0.0, 0, 2, 2])) == 0


def test_windows_are_mirrored_and_shortened():
    torch.manual_seed(0)
    past = torch.arange(5.0)[:, None, None].expand(5, 400, 4) + 1
    a, b = mirrored(past, past[:2], 10.0, 0.5)
    turned = a[0, :, 0] == 19
    assert 150 < int(turned.sum()) < 250
    assert torch.equal(a[:, turned, 0], 20 - past[:, turned, 0])
    assert torch.equal(b[:, turned], a[:2, turned]) and torch.equal(a[..., 1:], past[..., 1:])
    lengths = torch.full((400,), 5)
    cut, left = shortened(past, lengths, 0.5)
    assert set(left.tolist()) == {1, 2, 3, 4, 5}
    assert torch.equal(cut[0, :, 0], 6.0 - left)  # the last boxes stay
    assert shortened(past, lengths, 0.0)[0] is past


def test_a_resumed_run_is_the_run_that_was_never_interrupted(resumes, circles):
    more = ["--steps", 8, "--validate-every", 4, "--shorten", 0.5, "--valid", circles]
    resumes("track", circles, *SMALL[:-2], *more, stop=6, files=["scores.json"])


def test_validation_holds_out_whole_tracks(elman, circles, tmp_path):
    given = [*SMALL, "--steps", 1, "--valid-fraction", 0.3]
    assert elman("train", "track", circles, *given).code == 0
    loaded = library.load(tmp_path / "run")
    task = Tracking(loaded.run, loaded.options)
    parts = {name: {w.where.split(",")[0] for w in part} for name, part in task.sources().items()}
    assert parts["train"] and parts["valid"] and not parts["train"] & parts["valid"]


def test_made_motions_are_the_default(elman):
    done = elman("train", "track", *SMALL, "--steps", 1, "--stride", 10)
    assert done.code == 0, done.err
    assert "straight and turning motions" in done.out and "test examples" in done.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--observe", 0], "observe must be"),
        (["--gaps", "fill"], "unknown rule for gaps"),
        (["--gaps", "fill"], "valid are interpolate, cut"),
        (["--longest-gap", -1], "longest_gap must be"),
        (["--mirror", 1.5], "mirror must be a probability"),
        (["--decoder", "attention"], "unknown decoder"),
        (["--observe", 40], "no example"),
    ],
)
def test_bad_options_are_named(options, message, elman, circles):
    done = elman("train", "track", circles, "--valid", circles, *options)
    assert done.code in (1, 2) and message in done.err.replace("\n", " ")


def test_a_line_that_is_no_box_is_named(elman, circles):
    given = [*SMALL, "--steps", 1, "--valid", circles]
    assert elman("train", "track", circles, *given).code == 0
    for text, message in (
        ("1 2 3", "a box is left, top, width and height"),
        ("1 2 3 x", "a box is four numbers"),
        ("1 2 0 4", "the last two above 0"),
    ):
        done = elman("predict", "run", text)
        assert done.code == 1 and message in done.err
