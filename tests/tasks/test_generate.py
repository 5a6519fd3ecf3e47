import json
import math

import numpy as np
import pytest
import torch

import elman as library
from elman.errors import RunError
from elman.tasks.generate.options import GenerateOptions
from elman.tasks.generate.task import Generation

SMALL = [
    *("--hidden", 16, "--latent", 3, "--batch-size", 8, "--threads", 1, "--validate-every", 1000),
    *("--learning-rate", 0.02, "--importance", 4, "--word-dropout", 0, "--out", "run"),
]
QUIET = ["--threads", 1, "--out", "run"]
LABELS = [option for option in SMALL if option != "--importance" and option != 4]
WORDS = ["red", "green", "blue", "black", "white"]


@pytest.fixture
def names(tmp_path):
    """A text file: each line one sequence."""
    path = tmp_path / "names.txt"
    path.write_text("\n".join(f"{a} {b}" for a in WORDS for b in WORDS) + "\n\n")
    return path


@pytest.fixture
def waves(tmp_path):
    """Series of two lengths in two classes, with channels of different sizes."""
    t = np.arange(9)
    rise = np.random.default_rng(0).uniform(0.1, 1, 40)
    x = np.stack([np.stack([r * t, 100 + np.sin(t + r)], -1) for r in rise])
    lengths = np.where(rise > 0.5, 9, 5)
    np.savez(tmp_path / "waves.npz", x=x, y=(rise > 0.5).astype(int), lengths=lengths)
    return tmp_path / "waves.npz"


def scores(run):
    return json.loads((run / "scores.json").read_text())


def lines(done):
    assert done.code == 0, done.err
    return done.out.removesuffix("\n").split("\n")


def test_texts_are_written_reconstructed_and_scored(elman, names, tmp_path):
    done = elman("train", "generate", names, *SMALL, "--steps", 20)
    assert done.code == 0, done.err
    run = tmp_path / "run"
    sections = (run / "samples.txt").read_text().split("\n\n")
    assert sections[0].startswith("# drawn\n") and sections[0].count("\n") == 20
    assert sections[1].startswith("# given, and again\n")
    found = scores(run)
    total = found["reconstruction_nats"] + found["kl_nats"]
    assert found["loss_nats"] == pytest.approx(total, rel=1e-6)
    assert found["bound_nats"] <= found["loss_nats"] + 1
    assert found["baseline"]["loss_nats"] > 0

    again = lines(elman("eval", "run", names, "--json"))
    assert json.loads(again[0])["examples"] == 25
    one, two = (lines(elman("sample", "run", "--count", 3, "--seed", 4)) for _ in range(2))
    assert one == two and len(one) == 3
    assert all(len(text) <= 11 for text in one)
    assert lines(elman("sample", "run", "--count", 3, "--seed", 5)) != one
    written = lines(elman("sample", "run", "--count", 3, "--seed", 4, "--json"))
    assert [json.loads(line)["text"] for line in written] == one

    (answer,) = lines(elman("predict", "run", "red green", "--json"))
    latent = json.loads(answer)["latent"]
    trained = library.load(run)
    x = torch.from_numpy(trained.processor.inputs.encode("red green"))[:, None]
    with torch.no_grad():
        mean, _ = trained.model.encode(x)
    assert latent == pytest.approx(mean[0].tolist(), abs=1e-6)
    assert len(trained.between("red blue", "black red", 4)) == 4


def test_a_text_that_is_learnt_by_heart_is_drawn(elman, tmp_path):
    (tmp_path / "one.txt").write_text("abcab\n" * 40)
    done = elman("train", "generate", "one.txt", *SMALL, "--steps", 150)
    assert done.code == 0, done.err
    drawn = lines(elman("sample", "run", "--count", 20, "--seed", 1))
    assert drawn.count("abcab") >= 18
    assert lines(elman("predict", "run", "abcab")) == ["abcab"]
    found = scores(tmp_path / "run")
    assert found["loss_nats"] < 0.5 < found["baseline"]["loss_nats"]


def test_the_baseline_is_that_of_independent_items(elman, names, tmp_path):
    (tmp_path / "new.txt").write_text("red\n")
    elman("train", "generate", names, *SMALL, "--steps", 1, "--valid", names)
    (answer,) = lines(elman("eval", "run", "new.txt", "--json"))
    texts = names.read_text().split("\n")[:25]
    units = sorted(set("".join(texts)))
    total = sum(len(text) + 1 for text in texts) + len(units) + 2  # each unit once more, <unk> too
    counts = [1 + sum(text.count(unit) for text in texts) for unit in "red"]
    wanted = -sum(math.log(n / total) for n in [*counts, 26])
    found = json.loads(answer)["baseline"]
    assert found["loss_nats"] == pytest.approx(wanted)
    assert found["nats_per_token"] == pytest.approx(wanted / 4)


def test_series_of_several_lengths_are_drawn_in_their_own_units(elman, waves, tmp_path):
    done = elman("train", "generate", waves, *SMALL, "--steps", 60, "--free-bits", 0.1)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "samples.png").read_bytes().startswith(b"\x89PNG")
    assert (
        json.loads((tmp_path / "run" / "config.json").read_text())["metadata"]["kind"] == "normal"
    )
    series = [json.loads(line)["series"] for line in lines(elman("sample", "run", "--json"))]
    assert len(series) == 10
    middle = np.array(series).mean((0, 1))
    assert 90 < middle[1] < 110 and -10 < middle[0] < 15
    (line,) = lines(elman("sample", "run", "--count", 1, "--length", 7, "--seed", 1))
    (answer,) = lines(elman("predict", "run", line, "--json"))
    assert np.array(json.loads(answer)["series"]).shape == (7, 2)
    done = elman("sample", "run", "--count", 12, "--out", "sheet.png")
    assert done.code == 0 and (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert len(lines(elman("predict", "run", "--file", waves))) == 40


def test_numbers_become_ones_above_the_middle(elman, tmp_path):
    rows = [[0, 16, 9, 7] if i % 2 else [16, 0, 3, 8] for i in range(30)]
    table = "\n".join(",".join(map(str, row)) for row in [["a", "b", "c", "d"], *rows])
    (tmp_path / "rows.csv").write_text(table)
    done = elman(
        *("train", "generate", "rows.csv", *SMALL, "--step-size", 2, "--steps", 120),
        *("--distribution", "binary"),
    )
    assert done.code == 0, done.err
    first, second = lines(elman("predict", "run", "0 16; 9 7", "16 0; 3 8"))
    assert {first, second} <= {"0 16; 16 0", "16 0; 0 16"}
    drawn = lines(elman("sample", "run", "--count", 40, "--seed", 0))
    steps = [line.split("; ") for line in drawn]
    after = [second for first, second in steps if first == "0 16"]
    assert len(after) > 5 and after.count("16 0") >= 0.8 * len(after)


def test_the_digits_are_embedded(elman, tmp_path):
    done = elman("train", "generate", *SMALL, "--steps", 2)
    assert done.code == 0, done.err
    (line,) = lines(elman("sample", "run", "--count", 1))
    assert [len(row.split()) for row in line.split("; ")] == [8] * 8
    assert set(line.replace(";", "").split()) <= {"0", "16"}


def test_a_conditional_model_writes_what_belongs_to_a_label(elman, tmp_path):
    texts = {"fruit": ["apple", "pear"], "beast": ["cow", "dog"]}
    rows = [f"{text},{label}" for label, some in texts.items() for text in some] * 12
    (tmp_path / "words.csv").write_text("\n".join(["text,label", *rows]))
    done = elman(*("train", "generate", "words.csv", *LABELS, "--conditional", "--steps", 300))
    assert done.code == 0, done.err
    for label, some in texts.items():
        drawn = lines(elman("sample", "run", "--label", label, "--count", 20, "--seed", 2))
        assert sum(text in some for text in drawn) >= 18
        assert set(drawn) >= set(some)
        assert lines(elman("predict", "run", label))[0] in some
    assert "# fruit\n" in (tmp_path / "run" / "samples.txt").read_text()
    found = scores(tmp_path / "run")
    assert "kl_nats" not in found and "bound_nats" not in found
    assert found["loss_nats"] == pytest.approx(math.log(2), abs=0.2)
    assert "did you mean 'fruit'" in elman("sample", "run", "--label", "friut").err


def test_series_are_written_for_a_label(elman, waves, tmp_path):
    done = elman("train", "generate", waves, *LABELS, "--conditional", "--steps", 3)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "samples.png").is_file()
    (answer,) = lines(elman("predict", "run", "1", "--json"))
    assert json.loads(answer)["label"] == "1"
    assert json.loads(lines(elman("eval", "run", waves, "--json"))[0])["nats_per_frame"] > 0


@pytest.fixture
def lines_of_vectors(tmp_path):
    """Straight lines, each of which its vector tells: where it begins and how it rises."""
    vectors = np.random.default_rng(0).uniform((-5, -1), (5, 1), (200, 2))
    x = vectors[:, :1] + vectors[:, 1:] * np.arange(6)
    np.savez(tmp_path / "lines.npz", x=x, y=vectors)
    return tmp_path / "lines.npz"


def test_series_are_written_from_a_vector(elman, lines_of_vectors, tmp_path):
    more = ("--conditional", "--vectors", "--epochs", 30)
    done = elman("train", "generate", lines_of_vectors, *LABELS, *more)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "samples.png").is_file()
    (answer,) = lines(elman("predict", "run", "2, -0.5", "--json"))
    found = json.loads(answer)
    assert found["label"] == "2, -0.5"
    expected = 2 - 0.5 * np.arange(6)
    assert np.array(found["series"])[:, 0] == pytest.approx(expected, abs=0.8)
    drawn = lines(elman("sample", "run", "--label", "[2 -0.5]", "--count", 3, "--seed", 0))
    assert len(drawn) == 3
    assert lines(elman("sample", "run", "--count", 2, "--seed", 0))
    assert json.loads(lines(elman("eval", "run", lines_of_vectors, "--json"))[0])["examples"] == 200


def test_texts_are_written_from_a_vector(elman, tmp_path):
    rows = ["text,label", *["cold,0 1", "hot,1 0", "warm,0.8 0.2"] * 15]
    (tmp_path / "words.csv").write_text("\n".join(rows))
    given = ("train", "generate", "words.csv", *LABELS, "--conditional", "--vectors")
    done = elman(*given, "--steps", 200)
    assert done.code == 0, done.err
    assert lines(elman("predict", "run", "0 1", "1 0")) == ["cold", "hot"]
    assert "# 0 1\n" in (tmp_path / "run" / "samples.txt").read_text()
    assert "numbers with spaces or commas between, got 'red'" in elman("predict", "run", "red").err
    assert "has 3 numbers, the others have 2" in elman("sample", "run", "--label", "1 2 3").err
    (tmp_path / "words.csv").write_text("\n".join([*rows, "odd,1 2 3"]))
    done = elman(*given, "--force")
    assert "words.csv: line 47" in done.err and "has 3 numbers, the others have 2" in done.err


def test_a_resumed_run_is_the_run_that_was_never_interrupted(resumes, names):
    more = ["--steps", 8, "--validate-every", 4, "--word-dropout", 0.3]
    files = ["scores.json", "samples.txt"]
    resumes("generate", names, *SMALL[:-2], *more, stop=6, files=files)


def test_the_weight_of_the_divergence_rises():
    options = GenerateOptions(beta=2.0, anneal=0.5)
    task = Generation(None, options)
    seen = []

    class Model:
        def loss(self, x, lengths, beta):
            seen.append(beta)

    batch = type("Batch", (), {"tensors": {"x": None, "x_lengths": None}})
    for progress in (0, 0.25, 0.5, 1):
        task.loss(Model(), batch, None, progress)
    Generation(None, GenerateOptions(anneal=0)).loss(Model(), batch, None, 0)
    assert seen == [0, 1, 2, 2, 1]


@pytest.mark.parametrize(
    ("fact", "value"), [("length", 0), ("length", -1), ("length", 2.5), ("kind", "prose")]
)
def test_a_damaged_fact_is_refused_by_the_name_of_its_file(fact, value, elman, names, tmp_path):
    assert elman("train", "generate", names, *SMALL, "--steps", 1).code == 0
    file = tmp_path / "run" / "config.json"
    config = json.loads(file.read_text())
    config["metadata"][fact] = value
    file.write_text(json.dumps(config))
    with pytest.raises(RunError, match=rf"config\.json: .*{fact} must be"):
        library.load(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--distribution", "binary"], "whose units have a softmax"),
        (["--distribution", "poisson"], "unknown distribution 'poisson'"),
        (["--beta", -1], "beta must be 0 or above"),
        (["--anneal", 2], "anneal must be 0 or above and at most 1"),
        (["--latent", 0], "latent must be a whole number above 0"),
        (["--word-dropout", 2], "word_dropout must be a probability"),
        (["--conditional", "--beta", 2], "beta is for a model with a latent variable"),
        (["--skip-unknown-labels"], "skip_unknown_labels is for a model with --conditional"),
        (["--conditional"], "one text file holds no labels"),
    ],
)
def test_bad_options_are_named(options, message, elman, names):
    done = elman("train", "generate", names, *QUIET, *options)
    assert done.code in (1, 2) and message in done.err.replace("\n", " ")


def test_sampling_says_what_it_does_not_take(elman, names):
    assert elman("train", "generate", names, *SMALL, "--steps", 1).code == 0
    for options, message in (
        (["--prompt", "a"], "takes no --prompt; it takes --count, --length"),
        (["--probabilities"], "takes no --probabilities"),
        (["--label", "a"], "was trained without labels"),
        (["--out", "a.png"], "texts are not drawn"),
        (["--count", 0], "count must be a whole number above 0"),
        (["--temperature", -1], "temperature must be 0"),
    ):
        done = elman("sample", "run", *options)
        assert done.code == 2 and message in done.err, done.err


def test_answers_have_their_probability_and_empty_inputs_none(elman, names, pipe):
    assert elman("train", "generate", names, *SMALL, "--steps", 30).code == 0
    pipe("red green\n\nblue red\n")
    done = elman("predict", "run", "--json", "--beams", 3, "--n-best", 3)
    found = [json.loads(line) for line in lines(done)]
    assert found[1] == {"left_out": "the input is empty"}
    chances = [one["log_probability"] for one in found[0]["n_best"]]
    assert chances == sorted(chances, reverse=True) and len(chances) == 3
    assert found[0]["log_probability"] == chances[0] < 0
    trained = library.load("run")
    z = torch.tensor([found[0]["latent"]])
    x = torch.from_numpy(trained.processor.inputs.encode(found[0]["text"]))[:, None]
    assert trained.model.decoder(x, z)[1].item() == pytest.approx(chances[0], abs=1e-4)


def test_series_have_their_probability(elman, waves):
    assert elman("train", "generate", waves, *SMALL, "--steps", 5).code == 0
    (found,) = [
        json.loads(line) for line in lines(elman("predict", "run", "1 99; 2 101", "--json"))
    ]
    assert np.shape(found["series"]) == (2, 2)
    trained = library.load("run")
    x = torch.from_numpy(trained.processor.inputs.encode(np.array(found["series"])))[:, None]
    log_p = trained.model.decoder(x, torch.tensor([found["latent"]]))[1]
    assert log_p.item() == pytest.approx(found["log_probability"], abs=1e-3)
