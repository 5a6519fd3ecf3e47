"""elman train translate, and what is done with its runs."""

import json
import math
import re

import pytest
import torch

import elman as library
from elman.models.decoding import Decoding
from elman.tasks.translate.options import SCHEDULES, TranslateOptions
from elman.tasks.translate.task import Translation
from elman.train.run import Run
from tests.tasks.test_tag import CELL, answers

TINY = [
    *("--hidden", 16, "--embedding", 10, "--batch-size", 16, "--learning-rate", 0.03),
    *("--threads", 1, "--seed", 1, "--beams", 2),
]
WORDS = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four"}


def pairs(count, start=0):
    """Numbers in two languages, from two to four of them."""
    names = list(WORDS)
    for i in range(start, start + count):
        said = [names[(i * k + i // 4) % 4] for k in range(1, 3 + i % 3)]
        yield " ".join(said), " ".join(WORDS[word] for word in said)


def table(path, count=60, start=0, header="source\ttarget\n"):
    path.write_text(header + "".join(f"{a}\t{b}\n" for a, b in pairs(count, start)))
    return path


def two_files(path, count=60):
    both = list(pairs(count))
    (path / "a.de").write_text("".join(f"{source}\n" for source, _ in both))
    (path / "a.en").write_text("".join(f"{target}\n" for _, target in both))


@pytest.fixture(scope="module")
def trained(shared):
    path, run = shared
    data, test = table(path / "a.tsv"), table(path / "test.tsv", 12, 200)
    long = ["--steps", 120, "--validate-every", 120]
    run("translate", data, "--test", test, *TINY, *long, "--out", "run")
    return path / "run"


def train(elman, *arguments):
    done = elman("train", "translate", *arguments, "--out", "run")
    assert done.code == 0, done.err
    return done


def test_a_run_holds_scores_beside_the_baseline(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"scores.json", "samples.txt", "attention.png", "curves.png", "source.json"} <= names
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["part"] == "test" and scores["examples"] == 12
    assert scores["exact_match"] > 0.7 and scores["char_error_rate"] < 0.3
    assert scores["baseline"]["exact_match"] == 0 < scores["baseline"]["char_error_rate"]
    sample = (trained / "samples.txt").read_text().split("\n\n")[0].splitlines()
    assert len(sample) == 3 and sample[0].split()[0] in WORDS


def test_predictions_from_the_command_files_and_a_pipe(trained, elman, tmp_path, pipe):
    assert elman("predict", trained, "eins zwei").out == "one two\n"
    found = answers(elman, trained, "drei vier", "eins")
    assert [a["source"] for a in found] == ["drei vier", "eins"]
    assert found[0]["text"] == "three four" and found[0]["log_probability"] < 0
    assert (
        len(elman("predict", trained, "--file", trained.parent / "test.tsv").out.split("\n")) == 13
    )
    (tmp_path / "new.txt").write_text("eins zwei\n\nzwei eins\n")
    done = elman("predict", trained, "--file", "new.txt")
    assert done.out.splitlines() == ["one two", "", "two one"]
    assert "1 x no answer, as the input is empty (first: input 2)" in done.err
    pipe("eins zwei\r\n\n")
    assert elman("predict", trained).out == "one two\n\n"


def test_a_table_of_sources_alone_is_enough_to_predict(trained, elman, tmp_path):
    (tmp_path / "new.csv").write_text("id,source\n1,eins zwei\n2,\n")
    done = elman("predict", trained, "--file", "new.csv", "--json")
    assert [json.loads(line).get("text") for line in done.out.splitlines()] == ["one two", None]


def test_several_best_for_each_input(trained, elman):
    found = answers(elman, trained, "eins zwei", "drei eins", "--beams", 4, "--n-best", 3)
    for answer in found:
        scores = [one["score"] for one in answer["n_best"]]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True)
        assert len({one["text"] for one in answer["n_best"]}) == 3
        assert answer["text"] == answer["n_best"][0]["text"]
    # Beams that were trained with are enough for two; each input has its lines.
    said = elman("predict", trained, "eins zwei", "drei eins", "--n-best", 2).out.splitlines()
    assert len(said) == 4 and said[0] == "one two"


def test_more_best_than_there_are(trained, elman):
    done = elman("predict", trained, "eins", "--n-best", 5)
    assert done.code == 2 and "n_best (5) must not exceed beams (2)" in done.err
    done = elman("predict", trained, "eins", "--n-best", 50, "--beams", 50, "--max-length", 1)
    assert done.code == 2 and "only 5 sequences that can be written with a vocab" in done.err


def test_what_is_not_said_of_decoding_is_as_scored(trained):
    loaded = library.load(trained)
    assert loaded.decoding == Decoding(beams=2, length_penalty=1.0, max_length=200)
    texts = ["drei eins zwei", "vier"]
    plain = [a.record["score"] for a in loaded.predict(texts)]
    said = [a.record["score"] for a in loaded.predict(texts, decoding=loaded.decoding)]
    assert plain == said


def test_draws_repeat_with_their_seed(trained, elman):
    drawn = ["predict", trained, "eins", "vier", "--temperature", 5, "--max-length", 12]
    one, two = elman(*drawn, "--seed", 4), elman(*drawn, "--seed", 4)
    assert one.code == 0 and one.out == two.out != elman(*drawn, "--seed", 5).out


def test_drawing_takes_one_beam(trained, elman):
    done = elman("predict", trained, "eins", "--temperature", 1, "--beams", 3)
    assert done.code == 2 and "beams (3) search and temperature (1.0) draws" in done.err
    done = elman("train", "translate", "--variational-dropout", 0.1, "--input-feeding")
    assert done.code == 2 and "variational_dropout is drawn once a sequence" in done.err


def test_attention_is_drawn(trained, elman, tmp_path):
    done = elman("predict", trained, "eins zwei", "", "vier", "--attention", "out.png")
    assert done.code == 0, done.err
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    assert names == ["out-3.png", "out.png"]
    done = elman("predict", trained, "eins", "--attention", "out.xyz")
    assert done.code == 2 and "a picture is one of" in done.err and ".png" in done.err
    done = elman("predict", trained, "eins", "--attention", "no/out.png")
    assert done.code == 2 and "there is no folder no" in done.err
    answer = next(library.load(trained).predict(["eins zwei"]))
    weights, written, read = answer.attention
    assert written == [" one", " two", "<end>"] and read == [" eins", " zwei", "<end>"]
    assert weights.sum(1) == pytest.approx([1, 1, 1], abs=1e-5)


def test_eval_on_the_own_part_and_on_other_files(trained, elman, tmp_path):
    own = json.loads(elman("eval", trained, "--json").out)
    given = json.loads(elman("eval", trained, trained.parent / "test.tsv", "--json").out)
    assert own["loss_nats"] == pytest.approx(given["loss_nats"], rel=1e-6)
    assert own["exact_match"] == given["exact_match"] and own["baseline"] == given["baseline"]
    two_files(tmp_path, 8)
    with (tmp_path / "a.de").open("a") as file:
        file.write("eins\n")
    with (tmp_path / "a.en").open("a") as file:
        file.write("\n")
    done = elman("eval", trained, "a.de", "a.en")
    lines = {line.split()[0]: line.split()[1:] for line in done.out.splitlines() if line}
    assert lines["examples"] == ["8"] and lines["exact_match"][1] == "0.0000"
    assert "left out: 1 x empty target (first: a.de: line 9)" in done.out
    done = elman("eval", trained, "a.de", "a.en", "--skip-unknown-labels")
    assert done.code == 2 and "no labels that could be unknown" in done.err


def test_one_answer_is_that_in_a_batch(trained):
    loaded = library.load(trained)
    texts = ["eins", "vier drei zwei eins", " ", "never seen"]
    together = list(loaded.predict(texts))
    alone = [next(loaded.predict([text])) for text in texts]
    assert [a.text for a in together] == [a.text for a in alone]
    scores = [[a.record.get("score", 0) for a in several] for several in (together, alone)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


KINDS = [
    ["--attention", "none"],
    ["--attention", "none", "--feed-context", "--no-bidirectional", "--reverse-source"],
    ["--attention", "dot", "--no-bidirectional"],
    ["--attention", "additive", "--input-feeding", "--label-smoothing", 0.1],
    ["--attention", "general", "--tie", "--scheduled-sampling", 0.5],
]


@pytest.mark.parametrize("more", KINDS, ids=lambda more: " ".join(map(str, more)))
def test_every_kind_of_decoder(elman, tmp_path, more):
    data = table(tmp_path / "a.tsv", 30)
    done = train(elman, data, *TINY, *more, "--embedding", 16, "--steps", 2)
    attends = more[1] != "none"
    assert ("attention.png" in done.out) == attends
    assert elman("predict", "run", "eins zwei", "--max-length", 5).code == 0
    drawn = elman("predict", "run", "eins", "--max-length", 5, "--attention", "a.png")
    assert attends == (drawn.code == 0) or "has no attention to draw" in drawn.err


def test_scheduled_sampling_rises_to_its_probability():
    for name, schedule in SCHEDULES.items():
        shares = [schedule(p / 10) for p in range(11)]
        assert shares == sorted(shares) and shares[-1] == pytest.approx(1, abs=0.011)
        assert shares[0] == (1 if name == "constant" else pytest.approx(0, abs=0.003))
    assert SCHEDULES["exponential"](0.5) == pytest.approx(0.9)
    assert SCHEDULES["sigmoid"](0.5) == 0.5


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedule_reaches_the_loss(schedule, tmp_path):
    """What the model is told: the probability times the share, and nothing in validation."""
    told = []

    class Model(torch.nn.Module):
        def loss(self, **given):
            told.append(given["scheduled_sampling"])

    from elman.data.core.batch import Batch

    options = TranslateOptions(scheduled_sampling=0.4, sampling_schedule=schedule)
    task, model = Translation(Run(tmp_path), options), Model()
    for progress in (0.25, 1.0):
        task.loss(model, Batch({}), None, progress)
    task.loss(model.eval(), Batch({}), None, 1.0)
    share = {"linear": 0.25, "exponential": 1 - 10**-0.5, "constant": 1.0}
    share["sigmoid"] = 1 / (1 + math.exp(3))
    last = 0.4 * SCHEDULES[schedule](1.0)
    assert told == [pytest.approx(0.4 * share[schedule]), pytest.approx(last), 0.0]


def test_the_embedded_dates(elman, tmp_path):
    options = ["--beams", 1, "--batch-size", 256, "--steps", 1, "--valid-fraction", 0.01]
    done = train(elman, *TINY, *options)
    assert "12,000 dates" in done.out and "kinds of unit (char)" in done.out
    line = (tmp_path / "run" / "samples.txt").read_text().splitlines()[2]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", line)


def test_units_are_found_and_cased(elman, tmp_path):
    text = "".join(f"{w * 2}\t{w.upper()}\n" for w in "abcdefgh" * 5)
    (tmp_path / "a.tsv").write_text(text)
    done = train(elman, "a.tsv", "--no-header", *TINY, "--lower-case", "--steps", 1)
    assert "source '1', target '2'" in done.out and "(char)" in done.out
    units = [json.loads((tmp_path / "run" / f"{s}.json").read_text()) for s in ("source", "target")]
    assert [u["lower_case"] for u in units] == [True, True]
    assert set("ABCDEFGH") & set(elman("predict", "run", "aa").out) == set()


def test_mixed_line_ends_and_another_encoding(elman, tmp_path):
    two_files(tmp_path)
    lines = (tmp_path / "a.de").read_text().replace("zwei", "zwö").splitlines()
    ends = ["\n", "\r\n", "\r"]
    mixed = "".join(line + ends[i % 3] for i, line in enumerate(lines))
    (tmp_path / "a.de").write_bytes(mixed.encode("latin-1"))
    done = elman("train", "translate", "a.de", "a.en", *TINY, "--steps", 1, "--out", "run")
    assert done.code == 1 and "--encoding latin-1" in done.err
    done = train(elman, "a.de", "a.en", *TINY, "--steps", 1, "--encoding", "latin-1")
    assert sum(map(int, re.search(r"(\d+) train, (\d+) valid", done.out).groups())) == 60


def test_a_cell_of_ones_own_is_named_again(elman, tmp_path):
    (tmp_path / "mine.py").write_text(CELL)
    own = ["--cell", "mine.py:Slow"]
    done = train(elman, table(tmp_path / "a.tsv", 30), *TINY, *own, "--steps", 1)
    assert 'elman predict run --cell mine.py:Slow "..."' in done.out
    assert "runs no code, so name it: --cell" in elman("predict", "run", "eins").err
    text = elman("predict", "run", "eins", "--max-length", 9, *own).out
    loaded = library.load("run", cell="mine.py:Slow")
    how = Decoding(beams=2, length_penalty=1.0, max_length=9)
    assert next(loaded.predict(["eins"], decoding=how)).text + "\n" == text


def test_interrupted_and_resumed_is_the_run_that_was_not(resumes, tmp_path):
    data = table(tmp_path / "a.tsv", 40)
    options = ["--dropout", 0.2, "--scheduled-sampling", 0.5, "--beams", 1, "--steps", 6]
    resumes("translate", data, *TINY, *options, stop=4)


GOOD = "source\ttarget\n" + "a b\tx y\n" * 30


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        (GOOD, ["--source-column", "src"], "did you mean 'source'.*source, target"),
        (GOOD, ["--target-column", "source"], "'source' cannot be both source and target"),
        ("one\n" + "a\n" * 30, [], "which column is the target.*one"),
        ("source\ttarget\na\tb\n", [], "the valid part has no example; give a larger"),
        ("source\ttarget\na\t\n\tb\n", [], "has no example; left out: 1 x empty target"),
        (GOOD + "a b c\n", [], "line 32: has 1 columns, but the first line has 2"),
        (GOOD, ["--attention", "dott"], "did you mean 'dot'"),
        (GOOD, ["--tokenizer", "wrod"], "did you mean 'word'"),
        (GOOD, ["--vocab-size", 1], "vocab_size must be at least 2"),
        (GOOD, ["--tokenizer", "bpe", "--vocab-size", 99], "at least 256 for bpe"),
        (GOOD, ["--tokenizer", "byte", "--vocab-size", 99], "there are always 256 bytes"),
        (GOOD, ["--tokenizer", "byte", "--min-count", 2], "min_count is for char, word"),
        (GOOD, ["--scheduled-sampling", 1.5], "scheduled_sampling must lie in"),
        (GOOD, ["--sampling-schedule", "linar"], "did you mean 'linear'"),
        (GOOD, ["--attention", "none", "--input-feeding"], "choose a kind of attention"),
        (GOOD, ["--feed-context"], "for a model without attention"),
        (GOOD, ["--attention", "dot"], "use general, or --no-bidirectional"),
        (GOOD, ["--hidden", 0], "hidden_size must be a whole number above 0"),
        (GOOD, ["--pooling", "max"], "No such option: --pooling"),
    ],
)
def test_bad_input_says_what_to_do_and_leaves_no_folder(elman, tmp_path, content, more, said):
    (tmp_path / "data.tsv").write_text(content)
    done = elman("train", "translate", "data.tsv", *TINY, *more, "--steps", 1, "--out", "run")
    assert done.code in (1, 2)
    assert re.search(said, done.err.replace("\n", " ")), done.err
    assert not (tmp_path / "run").exists()


def test_files_that_do_not_fit_each_other(elman, tmp_path):
    two_files(tmp_path, 30)
    with (tmp_path / "a.en").open("a") as file:
        file.write("one\n" * 3)
    done = elman("train", "translate", "a.de", "a.en", *TINY, "--steps", 1)
    assert done.code == 1 and "line 31: the files must have equally many lines" in done.err
    assert "a.de 30, a.en 33" in done.err
    done = elman("train", "translate", "a.de", *TINY, "--steps", 1)
    assert done.code == 1 and "two text files, source and target, or from one table" in done.err


def test_a_very_long_source(elman, tmp_path, trained):
    data = table(tmp_path / "a.tsv", 40)
    with data.open("a") as file:
        file.write("eins " * 100_000 + "\tone\n")
    done = train(elman, data, *TINY, "--steps", 1, "--max-length", 20)
    assert "1 x example cut off after 20 steps" in done.out
    loaded = library.load(trained)
    greedy = Decoding(max_length=3)
    assert next(loaded.predict(["eins " * 100_000], decoding=greedy)).text


def test_commands_for_other_models(trained, elman):
    done = elman("sample", trained)
    assert done.code == 2 and "has no 'sample'; try elman predict" in done.err


def test_a_text_may_be_begun(trained, elman):
    (found,) = answers(elman, trained, "eins zwei", "--prefix", "three")
    assert found["text"].split()[0] == "three"
    loaded = library.load(trained)
    plain, begun = (next(iter(loaded.predict(["vier"], prefix=p))).record for p in ("", "four"))
    assert plain["text"] == "four" and begun == pytest.approx(plain)
    done = elman("predict", trained, "eins", "--prefix", "Ω")
    assert done.code == 1 and "never seen" in done.err


def test_a_row_without_a_source_has_no_answer(trained, elman, tmp_path):
    (tmp_path / "new.jsonl").write_text('{"source": "eins zwei"}\n{"source": null}\n')
    assert elman("predict", trained, "--file", "new.jsonl").out == "one two\n\n"


def test_draws_do_not_depend_on_the_lines_that_come_together(trained, elman, pipe):
    given = ["eins zwei", "drei", "vier vier", "zwei eins drei"] * 3
    loaded = library.load(trained)
    drawing = Decoding(temperature=2.0, max_length=9, length_penalty=1.0)
    alone = loaded.predict(given, decoding=drawing, seed=4, batch_size=1)
    pipe("\n".join(given))
    how = ["--temperature", 2, "--max-length", 9, "--seed", 4]
    assert elman("predict", trained, *how).out == "".join(a.text + "\n" for a in alone)
