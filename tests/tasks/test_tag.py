"""elman train tag, and what is done with its runs."""

import json
import re

import pytest

import elman as library

TINY = [
    *("--hidden", 12, "--embedding", 8, "--character-embedding", 5, "--character-hidden", 4),
    *("--batch-size", 16, "--learning-rate", 0.03, "--threads", 1, "--seed", 3),
]
LONG = ["--steps", 60, "--validate-every", 60]
CITIES, THINGS = ("Ulm", "Bonn", "Rom"), ("tea", "rain", "jazz")


def sentence(i):
    """Words and tags: a capital letter says that a city is meant, "in" that one begins."""
    city, thing = CITIES[i % 3], THINGS[i % 2]
    if i % 4 < 2:
        return ["play", thing, "in", "New", city], ["O", "O", "O", "B-city", "I-city"]
    return [city, "has", thing], ["B-city", "O", "O"]


def conll(path, count=48, start=0, separator="\n", columns=lambda w, t: f"{w} {t}"):
    texts = []
    for i in range(start, start + count):
        lines = [columns(w, t) for w, t in zip(*sentence(i), strict=True)]
        texts.append(separator.join([*lines, "", ""]))
    path.write_text("".join(texts), newline="")
    return path


def folder(path, count=48, start=0, labels=True):
    path.mkdir()
    rows = [sentence(i) for i in range(start, start + count)]
    (path / "seq.in").write_text("".join(" ".join(words) + "\n" for words, _ in rows))
    (path / "seq.out").write_text("".join(" ".join(tags) + "\n" for _, tags in rows))
    if labels:
        names = ["play" if words[0] == "play" else "ask" for words, _ in rows]
        (path / "label").write_text("".join(f"{name}\n" for name in names))
    return path


def train(elman, *arguments):
    done = elman("train", "tag", *arguments, "--out", "run")
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def trained(shared):
    path, run = shared
    data, test = conll(path / "a.conll"), conll(path / "test.conll", 12, 100)
    run("tag", data, "--test", test, *TINY, *LONG, "--out", "run")
    return path / "run"


@pytest.fixture(scope="module")
def joint(shared):
    path, run = shared
    folder(path / "train")
    folder(path / "test", 12, 100)
    run("tag", "train", "--test", "test", *TINY, *LONG, "--no-characters", "--out", "joint")
    return path / "joint"


@pytest.fixture(scope="module")
def plain(shared):
    """Trained on sentences without labels, one step."""
    path, run = shared
    folder(path / "bare", labels=False)
    run("tag", "bare", *TINY, "--no-characters", "--steps", 1, "--out", "plain")
    return path / "plain"


def answers(elman, *arguments):
    done = elman("predict", *arguments, "--json")
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_a_run_holds_scores_beside_the_baseline(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"scores.json", "confusion.png", "curves.png", "words.json", "letters.json"} <= names
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["part"] == "test" and scores["examples"] == 12
    assert scores["span_f1"] == scores["accuracy"] == 1.0
    # "New" and the cities have other tags at other places.
    assert 0 < scores["baseline"]["span_f1"] < 1
    assert scores["baseline"]["name"] == "each word's commonest tag"


def test_predictions_with_spans_from_the_command_files_and_a_pipe(trained, elman, tmp_path, pipe):
    data = trained.parent
    found = answers(elman, trained, "play jazz in New Rom", "Bonn has tea")
    assert found[0]["tags"] == ["O", "O", "O", "B-city", "I-city"]
    assert found[0]["spans"] == [{"type": "city", "begin": 3, "end": 5, "text": "New Rom"}]
    assert len(found[1]["probabilities"]) == 3 and all(
        0 < p <= 1 for p in found[0]["probabilities"]
    )
    said = elman("predict", trained, "--file", data / "test.conll").out.splitlines()
    assert len(said) == 12 and said[0] == "play/O tea/O in/O New/B-city Bonn/I-city"
    (tmp_path / "new.txt").write_text("Rom has rain\n\nplay tea in New Ulm\n")
    done = elman("predict", trained, "--file", tmp_path / "new.txt")
    assert done.out.splitlines()[1] == ""
    assert "1 x no answer, as the input is empty (first: input 2)" in done.err
    pipe("Ulm has rain\n \n")
    assert elman("predict", trained).out == "Ulm/B-city has/O rain/O\n\n"


def test_files_to_predict_need_no_tags(trained, elman, tmp_path):
    (tmp_path / "words.conll").write_text("Rom\nhas\ntea\n\nplay\nrain\n")
    found = answers(elman, trained, "--file", tmp_path / "words.conll")
    assert [a["words"] for a in found] == [["Rom", "has", "tea"], ["play", "rain"]]


def test_eval_on_the_own_part_and_on_other_files(trained, elman):
    test = trained.parent / "test.conll"
    own = json.loads(elman("eval", trained, "--json").out)
    given = json.loads(elman("eval", trained, test, "--json").out)
    assert own["loss_nats"] == given["loss_nats"] and own["baseline"] == given["baseline"]
    shown = elman("eval", trained, test).out
    assert "beside it: each word's commonest tag" in shown and "span_f1" in shown


def test_one_answer_is_that_in_a_batch(trained):
    loaded = library.load(trained)
    sentences = [["Rom"], ["play", "jazz", "in", "New", "Ulm"], [], ["never", "seen", "Oslo"]]
    together = list(loaded.predict(sentences))
    alone = [next(loaded.predict([words])) for words in sentences]
    assert [a.text for a in together] == [a.text for a in alone]
    for one, other in zip(together, alone, strict=True):
        p = other.record.get("probabilities", [])
        assert one.record.get("probabilities", []) == pytest.approx(p, rel=1e-4)
    assert together[2].text == "" and together[2].record == {"left_out": "the input is empty"}


def test_a_label_for_the_whole_and_frames(joint, elman, tmp_path):
    scores = json.loads((joint / "scores.json").read_text())
    assert scores["label_accuracy"] == scores["frame_accuracy"] == 1.0
    assert scores["baseline"]["frame_accuracy"] < 1
    found = answers(elman, joint, "Rom has jazz")
    assert found[0]["label"] == "ask" and 0.5 < found[0]["label_probability"] <= 1
    assert elman("predict", joint, "play tea in New Rom").out.startswith("play\tplay/O tea/O")
    # After a training on folders a file without a known name holds a sentence a line.
    (tmp_path / "new").write_text("play rain\nRom has tea\n")
    data = joint.parent
    for file, count in ((data / "test", 12), (data / "test" / "seq.in", 12), ("new", 2)):
        assert len(answers(elman, joint, "--file", file)) == count


def test_labels_on_one_side_only(joint, plain, elman):
    done = elman("eval", joint, plain.parent / "bare")
    assert done.code == 1 and "has no label, and the model was trained on" in done.err
    done = elman("eval", plain, joint.parent / "test")
    assert done.code == 0 and "12 x label not looked at, as training had none" in done.out


def test_a_crf_obeys_the_spans_from_the_first_step(elman, tmp_path):
    data = conll(tmp_path / "a.conll")
    train(elman, data, *TINY, "--crf", "--no-characters", "--steps", 1)
    for answer in answers(elman, "run", "a b c d e f g", "in in in in", "New New has"):
        for before, tag in zip(["O", *answer["tags"]], answer["tags"], strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]


def test_without_characters_all_new_words_are_one(plain, elman):
    assert not (plain / "letters.json").exists()
    one, other = answers(elman, plain, "Oslo has tea", "Paris has tea")
    assert one["probabilities"] == other["probabilities"]  # both words are <unk>


def test_words_that_stand_once_are_read_as_what_is_new(elman, tmp_path):
    data = conll(tmp_path / "a.conll")
    data.write_text(data.read_text() + "play O\ntea O\nin O\nLinz B-city\n\n")
    options = [*TINY, "--no-characters", "--steps", 1, "--valid", data, "--force"]
    for more, same in (((), True), (("--min-count", 1), False)):
        train(elman, data, *options, *more)
        new, once = answers(elman, "run", "Oslo has tea", "Linz has tea")
        assert (new["probabilities"] == once["probabilities"]) is same


def test_the_embedded_proteins(elman, tmp_path):
    done = elman("train", "tag", *TINY, "--batch-size", 64, "--steps", 1, "--out", "run")
    assert done.code == 0, done.err
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["part"] == "test" and "span_f1" not in scores
    # Residues are single letters: there is nothing to spell.
    assert not (tmp_path / "run" / "letters.json").exists()
    assert elman("predict", "run", "M K V L").code == 0


def test_other_columns_line_ends_and_encodings(elman, tmp_path):
    data = conll(tmp_path / "a.tsv", separator="\r\n", columns=lambda w, t: f"1\t{w}ä\t{t}\tx")
    mixed = data.read_bytes().replace(b"\r\n", b"\r", 40).replace(b"\r\n", b"\n", 40)
    data.write_bytes(mixed.decode().encode("latin-1"))
    columns = ["--word-column", 2, "--tag-column", 3, "--no-characters"]
    done = elman("train", "tag", data, *TINY, *columns, "--steps", 1, "--out", "run")
    assert done.code == 1 and "--encoding latin-1" in done.err
    done = train(elman, data, *TINY, *columns, "--encoding", "latin-1", "--steps", 1)
    assert "words in column 2, tags in column 3" in done.out and ", 3 tags" in done.out
    assert sum(map(int, re.search(r"(\d+) train, (\d+) valid", done.out).groups())) == 48


CELL = """
import torch
from torch import nn

import elman


class Slow(elman.Cell):
    def __init__(self, input_size, hidden_size, rate=0.5):
        super().__init__(input_size, h=hidden_size)
        self.rate = rate
        self.weight = nn.Parameter(torch.randn(hidden_size, input_size) / 4)
        self.recurrent = nn.Parameter(torch.randn(hidden_size, hidden_size) / 4)

    def step(self, x, h):
        new = torch.tanh(x @ self.weight.T + h @ self.recurrent.T)
        return h + self.rate * (new - h)
"""


def test_a_cell_of_ones_own_is_named_again(elman, tmp_path):
    (tmp_path / "mine.py").write_text(CELL)
    data = conll(tmp_path / "a.conll")
    own = ["--cell", "mine.py:Slow"]
    done = train(
        elman, data, *TINY, *own, "--no-characters", "--cell-option", "rate=0.7", "--steps", 1
    )
    assert 'elman predict run --cell mine.py:Slow "..."' in done.out
    assert "runs no code, so name it: --cell" in elman("predict", "run", "tea").err
    text = elman("predict", "run", "Rom has tea", *own).out.strip()
    loaded = library.load("run", cell="mine.py:Slow")
    kind = next(type(m) for m in loaded.model.modules() if type(m).__name__ == "Slow")
    again = library.load("run", cell=kind)
    assert [next(m.predict([["Rom", "has", "tea"]])).text for m in (loaded, again)] == [text] * 2


def test_interrupted_and_resumed_is_the_run_that_was_not(resumes, tmp_path):
    data = conll(tmp_path / "a.conll")
    options = ["--no-characters", "--dropout", 0.2, "--word-dropout", 0.2, "--steps", 8]
    resumes("tag", data, *TINY, *options, stop=5)


BAD = "a B-x\nb I-x\n\n" * 12


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        ("a O\nb O\n\n" * 12, [], "at least two different labels, got only 'O'"),
        ("a\nb\n\n" * 12, [], "has no tag in column 2: 'a'"),
        (BAD, ["--tag-column", 4], "has no tag in column 4"),
        (BAD, ["--tag-column", 0], "tag_column must be a whole number above 0"),
        (BAD + "a b c\n", [], "line 37: has 3 columns, the lines before have 2"),
        ("\n\n\n", [], "at least two different labels, got none"),
        (BAD, ["--pooling", "mex"], "did you mean 'max'"),
        (BAD, ["--vocab-size", 1], "vocab_size must be at least 2"),
        (BAD, ["--word-dropout", 2], "word_dropout must be a probability"),
        (BAD, ["--label-weight", -1], "label_weight must be 0 or above"),
        (BAD, ["--layers", 0], "num_layers must be a whole number above 0"),
        (BAD, ["--tokenizer", "char"], "No such option: --tokenizer"),
        (BAD, ["--valid", "nothing.conll"], "nothing.conll: no such file"),
    ],
)
def test_bad_input_says_what_to_do_and_leaves_no_folder(elman, tmp_path, content, more, said):
    (tmp_path / "data.conll").write_text(content)
    done = elman("train", "tag", "data.conll", *TINY, *more, "--steps", 1, "--out", "run")
    assert done.code in (1, 2)
    assert re.search(said, done.err.replace("\n", " ")), done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("seq.out", "O B-x\n" * 8, "line 9: the files must have equally many lines.*seq.out 8"),
        ("seq.out", "O B-x\n" * 3 + "O\n" * 9, "line 4: 2 words, but 1 tags in seq.out"),
        ("label", "a\n" * 12, "at least two different labels, got only 'a'"),
    ],
)
def test_folders_whose_files_do_not_fit(elman, tmp_path, name, text, said):
    path = tmp_path / "data"
    path.mkdir()
    files = {"seq.in": "play x\n" * 12, "seq.out": "O B-x\n" * 12, "label": "a\nb\n" * 6}
    for file, content in {**files, name: text}.items():
        (path / file).write_text(content)
    done = elman("train", "tag", path, *TINY, "--steps", 1, "--out", "run")
    assert done.code == 1 and re.search(said, done.err.replace("\n", " ")), done.err


def test_parallel_files_may_be_named_one_by_one(elman, tmp_path):
    files = {"seq.in": "play x\n" * 12, "seq.out": "O B-x\n" * 12, "label": "a\nb\n" * 6}
    for file, content in files.items():
        (tmp_path / file).write_text(content)
    command = ["train", "tag", *TINY, "--steps", 1, "--valid-fraction", 0.4, "--out", "run"]
    done = elman(*command, "label", "seq.out", "seq.in")
    assert done.code == 0 and "seq.in: tags in seq.out, label in label" in done.out, done.err
    assert len(elman("predict", "run", "--file", "seq.in").out.splitlines()) == 12
    done = elman(*command, "--force", "seq.in", "label")
    assert done.code == 1 and "parallel files are seq.in and seq.out" in done.err


def test_a_tag_that_only_other_files_have(trained, elman, tmp_path):
    (tmp_path / "other.conll").write_text("Rom B-city\n\nNil B-river\n")
    done = elman("eval", trained, tmp_path / "other.conll")
    assert done.code == 1 and "unknown label 'B-river'" in done.err
    done = elman("eval", trained, tmp_path / "other.conll", "--skip-unknown-labels")
    assert done.code == 0, done.err
    assert "left out: 1 x label that the training data do not hold: 'B-river'" in done.out


def test_a_very_long_sentence(elman, tmp_path):
    data = conll(tmp_path / "a.conll")
    with data.open("a") as file:
        file.write("tea O\n" * 100_000 + "\n")
    options = [*TINY, "--no-characters", "--steps", 1, "--max-length", 50]
    done = train(elman, data, *options)
    assert "1 x example cut off after 50 steps" in done.out
    found = next(library.load("run").predict([["tea"] * 100_000]))
    assert len(found.record["tags"]) == 100_000


def test_what_a_tagger_cannot_do(trained, elman):
    assert "writes nothing step by step" in elman("predict", trained, "a", "--beams", 2).err
    done = elman("predict", trained, "a", "--attention", "a.png")
    assert done.code == 2 and "has no attention to draw" in done.err and done.out == ""
