import json

import numpy as np
import pytest

import elman as library

TINY = [
    *("--hidden", 12, "--embedding", 8, "--batch-size", 8, "--learning-rate", 0.02),
    *("--threads", 1, "--seed", 3),
]


def reviews(path, count=60, start=0):
    """Texts whose label is said by one word of them."""
    lines = ["text,label"]
    for i in range(start, start + count):
        good = i % 2
        lines.append(
            f'"a {"fine" if good else "dull"} film, number {i % 7}",{"pos" if good else "neg"}'
        )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def trained(elman, tmp_path):
    data = reviews(tmp_path / "reviews.csv")
    test = reviews(tmp_path / "test.csv", 20, 100)
    done = elman("train", "classify", data, "--test", test, *TINY, "--epochs", 8, "--out", "run")
    assert done.code == 0, done.err
    assert "always 'neg'" in done.out or "always 'pos'" in done.out
    return tmp_path / "run"


def test_a_run_holds_scores_and_pictures(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"scores.json", "confusion.png", "curves.png", "inputs.json"} <= names
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["part"] == "test" and scores["examples"] == 20
    assert scores["accuracy"] == 1.0 > scores["baseline"]["accuracy"] == 0.5


def test_predictions_from_the_command_a_file_and_a_pipe(trained, elman, tmp_path, monkeypatch):
    said = elman("predict", trained, "a dull film", "what a fine film", "--json")
    answers = [json.loads(line) for line in said.out.splitlines()]
    assert [answer["label"] for answer in answers] == ["neg", "pos"]
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert len(elman("predict", trained, "--file", tmp_path / "test.csv").out.splitlines()) == 20
    monkeypatch.setattr("sys.stdin", iter(["a fine film\n", "dull\n"]))
    monkeypatch.setattr("elman.cli.predict.sys.stdin", _Lines(["a fine film\n", "dull\n"]))
    assert [line.split("\t")[0] for line in elman("predict", trained).out.splitlines()] == [
        "pos",
        "neg",
    ]


class _Lines(list):
    def isatty(self):
        return False


def test_eval_on_other_files_and_on_the_own_test_part(trained, elman, tmp_path):
    own = json.loads(elman("eval", trained, "--json").out)
    given = json.loads(elman("eval", trained, tmp_path / "test.csv", "--json").out)
    assert own["accuracy"] == given["accuracy"] and own["loss_nats"] == given["loss_nats"]
    assert given["baseline"]["accuracy"] == 0.5


def test_one_answer_is_that_in_a_batch(trained):
    loaded = library.load(trained)
    texts = ["fine", "a dull film, number 3", "what"]
    together = [a.record["probability"] for a in loaded.predict(texts)]
    alone = [next(loaded.predict([text])).record["probability"] for text in texts]
    assert together == pytest.approx(alone, rel=1e-5)


def test_series_of_numbers_with_lengths(elman, tmp_path):
    draw = np.random.default_rng(0)
    y = np.arange(48) % 2
    x = draw.normal(size=(48, 9, 2)) + np.where(y, 3.0, -3.0)[:, None, None]
    np.savez(tmp_path / "series.npz", x=x, y=y, lengths=draw.integers(1, 10, 48))
    done = elman("train", "classify", "series.npz", *TINY, "--epochs", 6, "--out", "run")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["accuracy"] == 1.0
    said = elman("predict", "run", "--", "3,3;2.5,4", "-3,-2")
    assert [line.split("\t")[0] for line in said.out.splitlines()] == ["1", "0"]
    assert "make no steps of 2" in elman("predict", "run", "1,2,3").err


def test_the_embedded_digits(elman, tmp_path):
    done = elman("train", "classify", *TINY, "--steps", 3, "--out", "run")
    assert done.code == 0, done.err
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["examples"] > 100
    row = ",".join(["0"] * 64)
    assert elman("predict", "run", row).code == 0


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        ("words,label\na,b\n", [], "which column is the text?.*words, label"),
        ("text,label\n" + "a,x\n" * 9, [], "at least two different labels, got only 'x'"),
        ("text,label\na,x\nb,y\n" * 9, ["--text-column", "txt"], "did you mean 'text'"),
        ("text,label\na,x\nb,y\n" * 9, ["--valid-fraction", 0], "valid_fraction must lie"),
        ("text,label\na,x\nb,y\n" * 9, ["--pooling", "lst"], "did you mean 'last'"),
        ("text,label\na,x\nb,y\n" * 9, ["--dropout", 2], "dropout must be a probability"),
    ],
)
def test_bad_input_says_what_to_do_and_leaves_no_folder(elman, tmp_path, content, more, said):
    import re

    (tmp_path / "data.csv").write_text(content)
    done = elman("train", "classify", "data.csv", *TINY, *more, "--steps", 2, "--out", "run")
    assert done.code in (1, 2)
    assert re.search(said, done.err.replace("\n", " ")), done.err
    assert not (tmp_path / "run").exists()


def test_a_label_that_only_the_test_file_has(elman, tmp_path):
    data = reviews(tmp_path / "reviews.csv")
    (tmp_path / "test.csv").write_text("text,label\na fine film,pos\nso so,meh\n")
    command = ["train", "classify", data, "--test", "test.csv", *TINY, "--steps", 2, "--out", "run"]
    done = elman(*command)
    assert done.code == 1 and "unknown label 'meh'" in done.err
    done = elman(*command, "--skip-unknown-labels")
    assert done.code == 0, done.err
    assert "left out of test: 1 x label that the training data do not hold" in done.out


def test_long_examples_are_cut_and_counted(elman, tmp_path):
    data = reviews(tmp_path / "reviews.csv")
    done = elman("train", "classify", data, *TINY, "--steps", 2, "--max-length", 3, "--out", "run")
    assert done.code == 0, done.err
    assert "example cut off after 3 steps" in done.out
