import json
import re
import shlex

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

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


@pytest.fixture(scope="module")
def trained(shared):
    path, run = shared
    data = reviews(path / "reviews.csv")
    test = reviews(path / "test.csv", 20, 100)
    run("classify", data, "--test", test, *TINY, "--epochs", 8, "--out", "run")
    return path / "run"


def test_a_run_holds_scores_and_pictures(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"scores.json", "confusion.png", "curves.png", "inputs.json"} <= names
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["part"] == "test" and scores["examples"] == 20
    assert scores["accuracy"] == 1.0 > scores["baseline"]["accuracy"] == 0.5


def test_the_last_weights_are_kept_where_they_are_asked_for(elman, tmp_path):
    # The validation part says the opposite, so that training makes its loss worse.
    data, other = reviews(tmp_path / "a.csv"), reviews(tmp_path / "b.csv", 20)
    swapped = other.read_text().replace(",pos", ",x").replace(",neg", ",pos").replace(",x", ",neg")
    other.write_text(swapped)
    losses = {}
    for keep in ("best", "last"):
        more = ("--steps", 24, "--validate-every", 1, "--keep-weights", keep, "--out", keep)
        done = elman("train", "classify", data, "--valid", other, *TINY, *more)
        assert done.code == 0, done.err
        losses[keep] = json.loads((tmp_path / keep / "scores.json").read_text())["loss_nats"]
        chose = "validation part, which chose the weights" in done.out
        assert chose == (keep == "best")
    assert losses["last"] > 2 * losses["best"]
    last = max((tmp_path / "last" / "checkpoints").iterdir())
    weights = load_file(last / "model.safetensors")
    kept = load_file(tmp_path / "last" / "model.safetensors")
    assert all(torch.equal(kept[name], weight) for name, weight in weights.items())


def test_predictions_from_the_command_a_file_and_a_pipe(trained, elman, pipe):
    said = elman("predict", trained, "a dull film", "what a fine film", "--json")
    answers = [json.loads(line) for line in said.out.splitlines()]
    assert [answer["label"] for answer in answers] == ["neg", "pos"]
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    test = trained.parent / "test.csv"
    assert len(elman("predict", trained, "--file", test).out.splitlines()) == 20
    pipe("a fine film\ndull\n")
    assert [line.split("\t")[0] for line in elman("predict", trained).out.splitlines()] == [
        "pos",
        "neg",
    ]


def test_eval_on_other_files_and_on_the_own_test_part(trained, elman):
    own = json.loads(elman("eval", trained, "--json").out)
    given = json.loads(elman("eval", trained, trained.parent / "test.csv", "--json").out)
    assert own["accuracy"] == given["accuracy"] and own["loss_nats"] == given["loss_nats"]
    assert given["baseline"]["accuracy"] == 0.5


def test_one_answer_is_that_in_a_batch(trained):
    loaded = library.load(trained)
    texts = ["fine", "a dull film, number 3", "what"]
    together = [a.record["probability"] for a in loaded.predict(texts)]
    alone = [next(loaded.predict([text])).record["probability"] for text in texts]
    assert together == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(
    ("more", "same"),
    [((), True), (("--min-count", 1), False), (("--tokenizer", "char"), False)],
)
def test_words_that_stand_once_are_read_as_what_is_new(elman, tmp_path, more, same):
    data = reviews(tmp_path / "a.csv")
    data.write_text(data.read_text() + "a gripping film,pos\n")
    done = elman("train", "classify", data, *TINY, "--valid", data, "--steps", 1, *more)
    assert done.code == 0, done.err
    texts = ["a gripping film", "a smashing film"]
    known, new = library.load("runs/classify").predict(texts)
    assert (known.record["probabilities"] == new.record["probabilities"]) is same


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
        ("text,label\na,x\nb,y\n", [], "give a larger --valid-fraction"),
        ("text,label\na,x\nb,y\n" * 9, ["--dropout", 2], "dropout must be a probability"),
    ],
)
def test_bad_input_says_what_to_do_and_leaves_no_folder(elman, tmp_path, content, more, said):
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


def test_an_empty_input_has_an_empty_answer(trained, elman):
    done = elman("predict", trained, "a fine film", "  ", "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert lines[0]["label"] == "pos" and lines[1] == {"left_out": "the input is empty"}
    assert "1 x no answer, as the input is empty (first: input 2)" in done.err


def test_a_very_long_text(trained):
    answer = next(library.load(trained).predict(["fine " * 100_000]))
    assert answer.record["label"] in ("pos", "neg")


def test_mixed_line_ends_and_another_encoding(elman, tmp_path):
    rows = [f"fürs {i % 5},{'ab'[i % 2]}" for i in range(40)]
    text = "text,label\n" + "".join(row + ["\n", "\r\n"][i % 2] for i, row in enumerate(rows))
    (tmp_path / "data.csv").write_bytes(text.encode("latin-1"))
    command = ["train", "classify", "data.csv", *TINY, "--steps", 1, "--out", "run"]
    done = elman(*command)
    assert done.code == 1 and "--encoding latin-1" in done.err
    done = elman(*command, "--encoding", "latin-1")
    assert done.code == 0, done.err
    assert "text 'text', label 'label'" in done.out and ", 2 labels" in done.out


def test_labels_that_look_like_markup_are_shown_as_they_are(elman, tmp_path):
    (tmp_path / "data.csv").write_text("text,label\n" + "a,[bold]\nb,[/x]\n" * 20)
    done = elman("train", "classify", "data.csv", *TINY, "--steps", 1, "--out", "run [b]")
    assert done.code == 0, done.err
    assert "always '[" in done.out and "elman predict 'run [b]' \"...\"" in done.out


def test_what_a_classifier_cannot_do(trained, elman):
    done = elman("sample", trained)
    assert done.code == 2 and "has no 'sample'; try elman predict" in done.err
    for more in (["--beams", 3], ["--seed", 1], ["--n-best", 2]):
        done = elman("predict", trained, "a", *more)
        assert done.code == 2 and "writes nothing step by step" in done.err
    done = elman("predict", trained, "a", "--attention", "a.png")
    assert done.code == 2 and "has no attention to draw" in done.err


def test_what_comes_through_a_pipe_is_read_line_by_line(trained, elman, pipe):
    pipe(b"\xef\xbb\xbfa fine film\r\ndull\rdull\n\n")
    assert [line.split("\t")[0] for line in elman("predict", trained).out.split("\n")] == [
        *("pos", "neg", "neg", "", ""),
    ]
    pipe(b"a fine film\n" * 9000 + b"\xff\n")  # more than comes at once
    done = elman("predict", trained)
    first = done.out.splitlines()[0]
    assert done.code == 1 and first.startswith("pos") and done.out == f"{first}\n" * 9000
    assert "standard input, line 9001: is not UTF-8" in done.err


def test_texts_and_numbers_are_not_taken_for_each_other(trained, elman, tmp_path, pipe):
    x = np.random.default_rng(0).normal(size=(20, 4, 2))
    np.savez(tmp_path / "x.npz", x=x, y=["pos", "neg"] * 10)
    command = ["train", "classify", "x.npz", *TINY[4:], "--hidden", 4, "--steps", 1, "--out", "x"]
    done = elman(*command, "--text-column", "review")
    assert done.code == 2 and "text_column is for texts" in done.err
    assert elman(*command).code == 0
    for run, file in ((trained, "x.npz"), ("x", trained.parent / "test.csv")):
        for ask in (["eval", run, file], ["predict", run, "--file", file]):
            done = elman(*ask)
            assert done.code == 1 and "model reads" in done.err, done.err
    for text, said in (
        ("1 nan", "number that is not finite"),
        ("1 1e99", "not finite"),
        ("1", "no steps"),
    ):
        done = elman("predict", "x", "1 2", text)
        assert done.code == 1 and "input 2: " in done.err and said in done.err
    pipe("1 2\n\n3 4\n")
    done = elman("predict", "x")
    assert done.out.split("\n")[1] == "" and len(done.out.splitlines()) == 3


def test_words_between_colons_are_no_pictures(elman):
    assert "nope.py:x: there" in elman("train", "classify", "--cell", "nope.py:x").err


OWN = """
import torch, elman


class Plain(elman.Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, h=hidden_size)
        self.W = torch.nn.Linear(input_size, hidden_size)

    def step(self, x, h):
        return torch.tanh(self.W(x) + h)
"""


def test_the_command_that_is_printed_can_be_pasted(elman, tmp_path):
    data, cell = reviews(tmp_path / "a.csv"), tmp_path / "my cells" / "a RUN.py"
    cell.parent.mkdir()
    cell.write_text(OWN)
    more = ("--steps", 2, "--hidden", 4, "--cell", f"{cell}:Plain", "--out", "it's a run")
    done = elman("train", "classify", data, *more)
    assert done.code == 0
    command = re.search(r"^more: +elman (predict .*)$", done.out, re.M).group(1)
    *words, given = shlex.split(command)
    assert given == "..." and words[1] == "it's a run"
    assert elman(*words, "a good film").code == 0


def test_a_run_of_an_earlier_version_is_refused_before_anything_is_written(elman, tmp_path):
    data = reviews(tmp_path / "a.csv")
    elman("train", "classify", data, "--steps", 2, "--hidden", 4, "--out", "run")
    file = tmp_path / "run" / "config.json"
    former = file.read_text().replace('"metadata"', '"found"')
    file.write_text(former)
    done = elman("train", "--resume", "run", "--steps", 4)
    assert done.code == 1 and "earlier version" in done.err and "train anew" in done.err
    assert file.read_text() == former
