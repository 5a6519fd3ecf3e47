import io
import json
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import elman as library
from elman.data.core.records import SkipLog
from elman.data.music.midi import LOWEST, read_midi, write_midi
from elman.tasks.music.options import MusicOptions
from elman.tasks.music.predictor import frame
from elman.tasks.music.task import moved

SMALL = [
    *("--hidden", 16, "--batch-size", 4, "--threads", 1, "--validate-every", 1000),
    *("--dropout", 0, "--learning-rate", 0.03, "--out", "run"),
]


@pytest.fixture
def rounds(tmp_path):
    """A folder of MIDI files: three chords in turn."""
    folder = tmp_path / "rounds"
    folder.mkdir()
    for number in range(12):
        roll = np.zeros((12 + number % 3, 88))
        for t in range(len(roll)):
            roll[t, [30 + (t + number) % 3, 40 + (t + number) % 3]] = 1
        write_midi(folder / f"{number:02}.mid", roll, 4, 120)
    return folder


def lines(done):
    assert done.code == 0, done.err
    return done.out.removesuffix("\n").split("\n")


def test_a_round_is_learnt_predicted_scored_and_sampled(elman, rounds, tmp_path, monkeypatch):
    done = elman("train", "music", rounds, *SMALL, "--steps", 250, "--valid", rounds)
    assert done.code == 0, done.err
    assert "12 train, 12 valid examples, 4 frames a beat" in done.out
    run = tmp_path / "run"
    scores = json.loads((run / "scores.json").read_text())
    assert scores["loss_nats"] < 0.5 and scores["f1"] > 0.98
    assert scores["baseline"]["f1"] == 0  # no chord sounds twice
    assert (run / "piano-roll.png").read_bytes().startswith(b"\x89PNG")
    [drawn] = read_midi(run / "sample.mid", 4, SkipLog())
    assert drawn.sum(1).mean() > 1

    [answer] = lines(elman("predict", "run", "51 61; 52 62; 53 63"))
    assert [part.split("/")[0] for part in answer.split()] == ["51", "61"]
    [first, second] = lines(elman("predict", "run", "51 61; -", "", "--json"))
    assert len(json.loads(first)["probabilities"]) == 88
    assert json.loads(second)["left_out"] == "the input is empty"
    assert len(lines(elman("predict", "run", "--file", rounds))) == 12
    found = json.loads(lines(elman("eval", "run", rounds, "--json"))[0])
    assert found["examples"] == 12 and found["loss_nats"] == pytest.approx(scores["loss_nats"])

    given = ["sample", "run", "--prompt", rounds / "00.mid", "--prompt-length", 4, "--length", 9]
    [one] = lines(elman(*given, "--temperature", 0))
    assert one == "; ".join(f"{51 + t % 3} {61 + t % 3}" for t in range(9))
    assert elman(*given, "--out", "a.mid", "--count", 2).code == 0
    assert len(read_midi(tmp_path / "a-2.mid", 4, SkipLog())[0]) <= 9
    nothing = ["sample", "run", "--seed", 3, "--json"]
    assert lines(elman(*nothing)) == lines(elman(*nothing))
    frames = json.loads(lines(elman(*nothing))[0])["frames"]
    assert len(frames) == 13 and frames[0][0] in (51, 52, 53)

    piped = io.TextIOWrapper(io.BytesIO(b"51 61\n52 62\n53 63\n\n51 61\n"))
    monkeypatch.setattr(sys, "stdin", piped)
    streamed = lines(elman("predict", "run", "--stream"))
    assert streamed[2] == answer and streamed[3] == streamed[0] and len(streamed) == 4


def test_a_loss_is_that_of_the_next_frame_summed_over_keys(elman, rounds, tmp_path):
    assert elman("train", "music", rounds, *SMALL, "--steps", 2, "--valid", rounds).code == 0
    trained = library.load(tmp_path / "run")
    nats, frames, seen = 0.0, 0, []
    for roll in trained.read_inputs(rounds):
        shares = torch.from_numpy(trained.probabilities(roll)[:-1]).double()
        wanted = torch.from_numpy(roll[1:]).double()
        nats += float(F.binary_cross_entropy(shares, wanted, reduction="sum"))
        frames += len(wanted)
        seen.append(wanted)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["loss_nats"] == pytest.approx(nats / frames, rel=1e-4)
    told = torch.cat(seen)
    share = (told.sum(0) + 1) / (len(told) + 2)
    alone = F.binary_cross_entropy(share.expand_as(told), told, reduction="sum") / len(told)
    assert scores["baseline"]["loss_nats"] == pytest.approx(float(alone))


def test_pieces_are_moved_only_as_far_as_the_keys_go():
    torch.manual_seed(0)
    x = torch.zeros(3, 500, 88)
    x[:, :, 2], x[1, :, 86] = 1, 1  # two keys of room below, one above
    tags = x.roll(-1, 0)
    a, b = moved(x, tags, 5)
    assert torch.equal(a.sum(-1), x.sum(-1)) and torch.equal(b, a.roll(-1, 0))
    lowest = a[0].argmax(-1)
    assert set(lowest.tolist()) == {0, 1, 2, 3}
    assert torch.equal(a[1, :, 84:].argmax(-1) + 84 - lowest, torch.full((500,), 84))
    silent, _ = moved(torch.zeros(2, 4, 88), torch.zeros(2, 4, 88), 5)
    assert not silent.any()
    assert moved(x, tags, 0)[0] is x


def test_a_resumed_run_moves_pieces_as_if_never_interrupted(resumes, rounds):
    more = ["--steps", 8, "--validate-every", 4, "--transpose", 6, "--dropout", 0.1]
    given = ["music", rounds, "--valid", rounds, *SMALL[:-2], *more]
    resumes(*given, stop=6, files=["scores.json", "sample.mid"])


def test_files_with_parts_are_taken_as_they_are(elman, tmp_path):
    rolls = {
        f"{part}_{i}": np.eye(6 + i, 88) for part in ("train", "valid", "test") for i in (1, 2)
    }
    np.savez(tmp_path / "a.npz", **rolls, train_3=np.eye(1, 88))
    done = elman("train", "music", "a.npz", *SMALL, "--steps", 2, "--max-length", 7)
    assert done.code == 0, done.err
    assert "2 train, 2 valid, 2 test examples" in done.out
    assert "1 x piece of one frame" in done.out and "1 x example cut off" in done.out
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["part"] == "test"
    assert json.loads(lines(elman("eval", "run", "a.npz", "--json"))[0])["examples"] == 2


def test_made_music_is_the_default(elman, tmp_path):
    done = elman("train", "music", *SMALL, "--steps", 1)
    assert done.code == 0, done.err
    assert "scales, arpeggios and canons" in done.out and "60 test examples" in done.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps-per-beat", 0], "steps_per_beat must be a whole number above 0"),
        (["--tempo", 0], "tempo must lie in"),
        (["--transpose", 88], "transpose must lie in 0 ... 87"),
        (["--cell", "lstn"], "unknown cell 'lstn'"),
    ],
)
def test_bad_options_are_named(options, message, elman, rounds):
    done = elman("train", "music", rounds, *options)
    assert done.code == 2 and message in done.err.replace("\n", " ")


def test_bad_files_and_requests_are_named(elman, rounds, tmp_path):
    (rounds / "bad.mid").write_bytes(b"MThd")
    given = ["train", "music", rounds, "--valid", rounds, *SMALL, "--steps", 1]
    done = elman(*given)
    assert done.code == 1 and "bad.mid: cannot be read as MIDI" in done.err
    assert not (tmp_path / "run").exists()
    done = elman(*given, "--skip-bad")
    assert done.code == 0 and "1 x file that cannot be read" in done.out
    for options, message in (
        (["--out", "a.png"], "music is written as .mid"),
        (["--out", "no/a.mid"], "there is no folder no"),
        (["--prompt-length", 3], "prompt_length is of a prompt"),
        (["--prompt", "none.mid"], "none.mid"),
        (["--top-k", 3], "takes no --top-k"),
        (["--length", 0], "length must be"),
    ):
        done = elman("sample", "run", *options)
        assert done.code in (1, 2) and message in done.err, done.err
    done = elman("predict", "run", "60 400")
    assert done.code == 1 and "keys of 21 ... 108" in done.err


def test_a_frame_is_its_keys():
    assert np.flatnonzero(frame("60, 64 67")).tolist() == [60 - LOWEST, 64 - LOWEST, 67 - LOWEST]
    assert not frame(" - ").any()


def test_the_rate_is_that_of_the_optimiser():
    assert MusicOptions().rate == 0.008 and MusicOptions(optimizer="sgd").rate == 1.0
    assert MusicOptions(learning_rate=0.1).rate == 0.1
