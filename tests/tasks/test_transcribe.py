"""elman train transcribe, what is done with its runs, and sounds for elman train classify."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

import elman as library
from elman.data.audio.samples import Sound
from elman.data.core.batches import collate
from elman.data.core.records import RecordSource, SkipLog
from elman.errors import OptionError
from elman.models.decoding import Decoding
from elman.tasks.base.audio import AudioProcessor
from elman.tasks.base.audio_options import SoundOptions
from elman.tasks.base.streaming import answers
from elman.tasks.base.text_scores import edits, transcript_counts, transcript_scores
from tests.data.sounds import RATE, tones, words, write_sounds

TINY = [
    *("--hidden", 24, "--batch-size", 8, "--learning-rate", 0.02, "--threads", 1, "--seed", 1),
    *("--num-mels", 16, "--no-bidirectional"),
]


def table(folder, count, seed=0, name="train.csv"):
    """A folder of sounds and its table."""
    texts = words(count, seed)
    names = write_sounds(folder, texts, seed)
    rows = [f"{name},{text}" for name, text in zip(names, texts, strict=True)]
    (folder / name).write_text("\n".join(["file,text", *rows]) + "\n")
    return folder / name


@pytest.fixture(scope="module")
def trained(shared):
    path, run = shared
    data, test = table(path / "train", 60), table(path / "test", 12, 7)
    long = ["--steps", 120, "--validate-every", 60]
    run("transcribe", data, "--test", test, *TINY, *long, "--out", "run")
    return path / "run"


def test_a_run_holds_scores_beside_the_baseline(trained):
    names = {path.name for path in trained.iterdir()}
    wanted = {"scores.json", "samples.txt", "transcripts.png", "curves.png", "audio.json"}
    assert wanted <= names and "tokenizer.json" in names
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["part"] == "test" and scores["examples"] == 12
    assert scores["char_error_rate"] < 0.05 and scores["exact_match"] > 0.8
    assert scores["baseline"]["char_error_rate"] > 0.5
    found, wanted = (trained / "samples.txt").read_text().split("\n\n")[0].splitlines()
    assert set(found) <= set("abc") and set(wanted) <= set("abc")


def test_files_named_on_the_command_line_and_a_table(trained, elman, tmp_path):
    soundfile.write(tmp_path / "x.wav", tones("abca"), RATE)
    soundfile.write(tmp_path / "y.flac", np.stack([tones("cb", rate=16000)] * 2, axis=1), 16000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(4000), RATE)
    done = elman("predict", trained, "x.wav", "silent.wav", "y.flac")
    assert done.code == 0 and done.out.splitlines() == ["abca", "", "cb"]
    assert "1 x no answer, as silent sound (first: input 2)" in done.err
    done = elman("predict", trained, "y.flac", "--json")
    record = json.loads(done.out)
    assert record["file"] == "y.flac" and record["text"] == "cb"
    assert [one["unit"] for one in record["units"]] == ["c", "b"]
    assert 0 < record["units"][0]["seconds"] < record["units"][1]["seconds"] < 0.4
    assert record["notes"] == [
        "sound of 2 channels mixed to one",
        "sound resampled from 16000 to 8000 Hz",
    ]
    test = trained.parent / "test"
    assert len(elman("predict", trained, "--file", test / "train.csv").out.splitlines()) == 12
    assert len(elman("predict", trained, "--file", test).out.splitlines()) == 12
    done = elman("predict", trained, "no.wav")
    assert done.code == 1 and "no.wav: no such file" in done.err


def test_the_same_in_python_alone_or_in_a_batch(trained):
    loaded = library.load(trained)
    given = [(tones(text, seed=i), RATE) for i, text in enumerate(["abc", "c", "ba"])]
    together = [answer.text for answer in loaded.predict(given)]
    assert together == [next(loaded.predict([one])).text for one in given] == ["abc", "c", "ba"]


def test_beams_and_the_best_of_them(trained, elman, tmp_path):
    soundfile.write(tmp_path / "x.wav", tones("abc"), RATE)
    done = elman("predict", trained, "x.wav", "--beams", 8, "--n-best", 3, "--json")
    record = json.loads(done.out)
    scores = [one["score"] for one in record["n_best"]]
    assert record["text"] == "abc" and scores == sorted(scores, reverse=True)
    assert len({one["text"] for one in record["n_best"]}) == 3
    assert elman("predict", trained, "x.wav", "--length-bonus", 50).out.strip() != "abc"
    done = elman("predict", trained, "x.wav", "--temperature", 1)
    assert done.code == 2 and "takes --beams and --n-best" in done.err


@pytest.fixture(scope="module")
def language(shared):
    """A language model that knows strings of c alone."""
    path, run = shared
    (path / "c.txt").write_text("cc\nccc\nc\n" * 150)
    small = ["--hidden", 16, "--batch-size", 4, "--bptt", 16, "--learning-rate", 0.02]
    run("lm", path / "c.txt", *small, "--steps", 60, "--threads", 1, "--out", "lm")
    return path / "lm"


def test_a_language_model_has_its_say(trained, language, elman, tmp_path):
    soundfile.write(tmp_path / "x.wav", tones("cac"), RATE)
    assert elman("predict", trained, "x.wav", "--lm", language, "--lm-weight", 0).out == "cac\n"
    done = elman("predict", trained, "x.wav", "--lm", language, "--lm-weight", 20)
    assert done.code == 0 and set(done.out.strip()) == {"c"}
    own = json.loads(elman("eval", trained, "--json").out)
    bent = elman("eval", trained, "--lm", language, "--lm-weight", 20, "--json")
    assert json.loads(bent.out)["char_error_rate"] > own["char_error_rate"] + 0.2
    done = elman("predict", language, "x", "--lm", language)
    assert done.code == 2
    done = elman("predict", trained, "x.wav", "--lm", trained)
    assert done.code == 2 and "no language model of characters" in done.err


def test_eval_on_the_own_part_and_on_other_files(trained, elman):
    own = json.loads(elman("eval", trained, "--json").out)
    given = json.loads(elman("eval", trained, trained.parent / "test", "--json").out)
    assert own["loss_nats"] == pytest.approx(given["loss_nats"], rel=1e-5)
    assert own["char_error_rate"] == given["char_error_rate"]
    assert own["baseline"] == given["baseline"]


def pcm(x):
    return (x * 32767).astype("<i2").tobytes()


def test_a_stream_says_what_the_whole_says(trained, elman, monkeypatch):
    x = np.concatenate([tones(text, seed=i) for i, text in enumerate(["abc", "cab", "bb"])])
    (whole,) = library.load(trained).predict([((x * 32767).astype("<i2") / 32768, RATE)])
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(pcm(x))))
    done = elman("predict", trained, "--stream")
    assert done.code == 0 and done.out == whole.text + "\n" and len(whole.text) > 5
    assert "us each (median)" in done.err
    file = io.BytesIO()
    soundfile.write(file, x, RATE, format="WAV")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(file.getvalue())))
    rows = [
        json.loads(line)
        for line in elman("predict", trained, "--stream", "--json").out.split("\n")[:-1]
    ]
    said = [unit for row in rows[:-1] for unit in row["units"]]
    assert said == whole.record["units"]
    assert rows[-1]["end"] == pytest.approx(len(x) / RATE, abs=0.05)


def test_what_hears_from_both_ends_has_no_stream(elman, tmp_path):
    data = table(tmp_path / "a", 12)
    both = [*TINY[:-1], "--bidirectional", "--steps", 2, "--out", "run"]
    assert elman("train", "transcribe", data, *both).code == 0
    done = elman("predict", "run", "--stream")
    assert done.code == 2 and "--no-bidirectional" in done.err
    more = ["--per-sound", "--force"]
    assert elman("train", "transcribe", data, *TINY, "--steps", 2, "--out", "run", *more).code == 0
    done = elman("predict", "run", "--stream")
    assert done.code == 2 and "--per-sound" in done.err


def test_a_resumed_run_is_the_one_that_was_never_stopped(elman, tmp_path):
    data = table(tmp_path / "a", 14)
    how = [*TINY, "--warp", 0.1, "--gain", 6, "--noise", 20, "--time-mask", 3, "--speed", 0.9]
    how += ["--frequency-mask", 3, "--dropout", 0.2, "--schedule", "constant"]
    how += ["--validate-every", 2]
    for out, steps in (("whole", 4), ("part", 2)):
        done = elman("train", "transcribe", data, *how, "--steps", steps, "--out", out)
        assert done.code == 0, done.err
    assert elman("train", "--resume", "part", "--steps", 4).code == 0
    one, two = (library.load(out).model.state_dict() for out in ("whole", "part"))
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def test_what_is_left_out_is_counted_and_said(elman, tmp_path):
    data = table(tmp_path / "a", 12)
    soundfile.write(tmp_path / "a" / "silent.wav", np.zeros(4000), RATE)
    soundfile.write(tmp_path / "a" / "short.wav", tones("a")[:300], RATE)
    soundfile.write(tmp_path / "a" / "short2.wav", tones("a")[:90], RATE)
    (tmp_path / "a" / "bad.wav").write_text("no sound")
    with data.open("a") as file:
        file.write("silent.wav,ab\nshort.wav,abcabc\nshort2.wav,a\nbad.wav,a\n")
    more = ["--steps", 2, "--valid", data, "--out", "run"]
    done = elman("train", "transcribe", data, *TINY, *more)
    assert done.code == 1 and "bad.wav: cannot be read as a sound" in done.err
    assert "--skip-bad" in done.err
    done = elman("train", "transcribe", data, *TINY, *more, "--skip-bad")
    assert done.code == 0, done.err
    for reason in (
        "1 x silent sound",
        "1 x transcript with more units than its sound has steps",
        "1 x sound shorter than a step",
        "1 x sound that cannot be read",
    ):
        assert reason in done.out
    done = elman(
        "train", "transcribe", data, *TINY, *more, "--skip-bad", "--max-length", 12, "--force"
    )
    assert "x sound longer than 12 steps" in done.out


def test_nothing_is_left(elman, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), RATE)
    (tmp_path / "a.csv").write_text("file,text\na.wav,ab\n")
    done = elman("train", "transcribe", "a.csv", *TINY, "--steps", 1)
    assert done.code == 1 and "has no example" in done.err and not list(tmp_path.glob("runs/*"))


def test_options_that_make_no_sense(elman, tmp_path):
    data = table(tmp_path / "a", 4)
    for more, why in (
        (["--num-mels", 2], "num_mels"),
        (["--speed", 9], "speed"),
        (["--noise", 99], "noise"),
        (["--dynamic-range", -1], "dynamic_range"),
        (["--sample-rate", 10], "sample_rate"),
        (["--embedding", 8], "embedding"),
        (["--beams", 0], "beams"),
        (["--lm", "no-such-run"], "no-such-run"),
    ):
        done = elman("train", "transcribe", data, *TINY, *more)
        assert done.code and why in done.err and not list(tmp_path.glob("runs/*"))


def test_edits_are_those_of_levenshtein():
    assert edits("kitten", "sitting") == 3 and edits("", "abc") == 3 and edits("ab", "ab") == 0
    assert edits(["the", "cat"], ["a", "cat", "sat"]) == 2
    draw = np.random.default_rng(0)
    for _ in range(30):
        a, b = (draw.integers(0, 3, draw.integers(0, 8)).tolist() for _ in range(2))
        assert edits(a, b) == slow(a, b)
    scores = transcript_scores(transcript_counts(["a b", "x"], ["a c", "x"]))
    assert scores == pytest.approx(
        {"char_error_rate": 1 / 4, "word_error_rate": 1 / 3, "exact_match": 1 / 2}
    )


def slow(a, b):
    if not a or not b:
        return len(a) + len(b)
    change = slow(a[1:], b[1:]) + (a[0] != b[0])
    return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, change)


def test_the_embedded_data_run(elman, monkeypatch):
    monkeypatch.setattr("elman.tasks.transcribe.processor.DIALLED", 40)
    done = elman("train", "transcribe", "--hidden", 8, "--steps", 1, "--threads", 1)
    assert done.code == 0 and "40 telephone numbers" in done.out


# Sounds with a label


@pytest.fixture(scope="module")
def labelled(shared):
    path, run = shared
    for label in "abc":
        write_sounds(path / "letters" / label, [label] * 12, seed=ord(label))
    small = [*TINY, "--steps", 40, "--warp", 0.02, "--pooling", "mean"]
    run("classify", path / "letters", *small, "--out", "letters-run")
    return path / "letters-run"


def test_sounds_are_classified(labelled, elman, tmp_path):
    assert json.loads((labelled / "scores.json").read_text())["accuracy"] == 1
    for letter in "abc":
        soundfile.write(tmp_path / f"{letter}.wav", tones(letter, seed=9), RATE)
    done = elman("predict", labelled, "b.wav", "c.wav", "a.wav")
    assert [line.split("\t")[0] for line in done.out.splitlines()] == ["b", "c", "a"]
    (tmp_path / "t.csv").write_text("path,label\na.wav,a\nb.wav,b\n")
    assert json.loads(elman("eval", labelled, "t.csv", "--json").out)["accuracy"] == 1
    assert elman("predict", labelled, "--file", "t.csv").out.startswith("a\t")
    soundfile.write(tmp_path / "silent.wav", np.zeros(4000), RATE)
    done = elman("predict", labelled, "silent.wav", "a.wav")
    assert done.code == 0 and "1 x no answer" in done.err and done.out.startswith("\na\t")


def test_a_label_while_it_is_heard(labelled):
    loaded = library.load(labelled)
    x = tones("b", seed=4)
    found = list(answers(loaded.stream(), io.BytesIO(pcm(x))))
    (whole,) = loaded.predict([Sound((((x * 32767).astype("<i2") / 32768), RATE), "", "")])
    assert found[-1].record["label"] == "b" and len(found) > 5
    assert found[-1].record["probability"] == pytest.approx(whole.record["probability"], abs=1e-4)


def test_a_sound_is_made_like_others(tmp_path):
    train = RecordSource(
        "", lambda skipped: (Sound((tones(w, seed=i), RATE), w, "") for i, w in enumerate(words(9)))
    )
    sound = tones("abc", seed=5)
    quiet, hissing = 0.1 * sound, sound + 0.01 * np.random.default_rng(0).normal(size=len(sound))

    def far(**how):
        audio = AudioProcessor.fit(train, SoundOptions(num_mels=16, **how), lambda *_: None)
        first, *others = (
            audio(Sound((x.astype(np.float32), RATE), "", ""), SkipLog())
            for x in (sound, quiet, hissing)
        )
        return [float(np.abs(other - first).mean()) for other in others]

    plain, own, both = far(), far(per_sound=True), far(per_sound=True, dynamic_range=25.0)
    assert own[0] < 0.02 * plain[0]
    assert both[0] < 0.02 * plain[0] and both[1] < 0.5 * own[1]


def test_what_is_changed_keeps_the_mean_of_a_sound():
    sounds = [Sound((tones(w, seed=i), RATE), w, "") for i, w in enumerate(words(4))]
    options = SoundOptions(num_mels=16, per_sound=True, warp=0.1, noise=10.0, gain=6.0)
    audio = AudioProcessor.fit(
        RecordSource("", lambda skipped: iter(sounds)), options, lambda *_: None
    )
    t = collate([{"x": audio(sound, SkipLog())} for sound in sounds]).tensors
    changed = audio.changed(t["x"], t["x_lengths"], options.augmentation)
    assert changed.sum(0).abs().max() < 1e-3 < (changed - t["x"]).abs().max()
    assert (changed[t["x_lengths"].min() :, t["x_lengths"].argmin()] == 0).all()


def test_what_changes_sounds_is_not_for_texts(elman, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n" + "yes,a\nno,b\n" * 9)
    done = elman("train", "classify", "a.csv", "--gain", 3)
    assert done.code == 2 and "change sounds alone" in done.err


def test_a_search_is_told_what_it_takes(trained):
    loaded = library.load(trained)
    assert loaded.decoding == Decoding(beams=1) and loaded.search().greedy
    assert loaded.search(lm="x").width == 16
    with pytest.raises(OptionError, match="--beams and --n-best"):
        loaded.search(Decoding(min_length=3))
