"""elman train caption, and what is done with its runs."""

import json
import re
import sys
import types
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

import elman as library
from elman.data.synthetic.scenes import scenes
from elman.errors import ShapeError
from elman.models.decoding import Decoding
from elman.tasks.base.text_scores import caption_scores
from elman.tasks.caption.options import CaptioningOptions
from elman.tasks.caption.predictor import captions_of
from elman.tasks.caption.processor import CaptionProcessor
from tests.tasks.test_tag import CELL, answers

TINY = [
    *("--hidden", 24, "--embedding", 12, "--features", 16, "--grid", 4, "--batch-size", 8),
    *("--learning-rate", 0.01, "--threads", 1, "--seed", 1, "--beams", 2),
    *("--valid-fraction", 0.3),
]
LONG = ["--steps", 90, "--validate-every", 45, "--learning-rate", 0.02, "--valid-fraction", 0.1]
COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220), "green": (20, 160, 40)}


def written(folder, count=45, size=(16, 16), start=0):
    """A folder of pictures of one colour, with two captions each."""
    folder.mkdir(exist_ok=True)
    rows = []
    for i in range(start, start + count):
        name, colour = list(COLOURS.items())[i % 3]
        noise = np.random.default_rng(i).integers(-15, 15, (*size, 3))
        pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows += [f"{i}.png,all is {name} here", f"{i}.png,{name} it is"]
    (folder / "captions.csv").write_text("\n".join(["file,caption", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(shared):
    path, run = shared
    data, test = written(path / "data"), written(path / "test", 9, start=100)
    run("caption", data, "--test", test, *TINY, *LONG, "--out", "run")
    return path / "run"


def train(elman, *arguments):
    done = elman("train", "caption", *arguments, "--out", "run")
    assert done.code == 0, done.err
    return done


def test_a_run_holds_scores_beside_both_baselines(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"captions.png", "attention.png", "samples.txt", "units.json", "scores.json"} <= names
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["part"] == "test" and scores["examples"] == 9
    assert scores["exact_match"] == 1 and scores["bleu_1"] == pytest.approx(100)
    frequent, nearest = scores["baseline"]
    assert frequent["exact_match"] == pytest.approx(1 / 3) and nearest["exact_match"] == 1
    assert "most frequent" in frequent["name"] and "nearest picture" in nearest["name"]
    first = (trained / "samples.txt").read_text().split("\n\n")[0].splitlines()
    assert len(first) == 3 and first[0] in first[1:]
    assert Image.open(trained / "captions.png").size[0] > 500


def test_predictions_from_files_folders_tables_and_a_pipe(trained, elman, tmp_path, pipe):
    folder = trained.parent / "test"
    one, two = folder / "100.png", folder / "101.png"
    said = elman("predict", trained, one, two).out.splitlines()
    assert "blue" in said[0] and "green" in said[1]
    found = answers(elman, trained, one)
    assert found[0]["picture"] == str(one) and found[0]["text"] == said[0]
    assert len(elman("predict", trained, "--file", folder).out.splitlines()) == 9
    (tmp_path / "new.csv").write_text(f"file\n{one}\n{two}\n")
    assert elman("predict", trained, "--file", "new.csv").out.splitlines() == said
    pipe(f"{one}\n\n")
    done = elman("predict", trained)
    assert done.out == f"{said[0]}\n\n" and "1 x no answer" in done.err


def test_several_best_draws_and_other_options_of_decoding(trained, elman):
    one = trained.parent / "test" / "100.png"
    (found,) = answers(elman, trained, one, "--beams", 4, "--n-best", 2)
    texts = {one["text"] for one in found["n_best"]}
    assert texts == {"all is blue here", "blue it is"}
    drawn = ["predict", trained, one, "--temperature", 3, "--max-length", 8, "--seed"]
    assert elman(*drawn, 4).out == elman(*drawn, 4).out != elman(*drawn, 5).out
    assert elman("predict", trained, one, "--max-length", 1).out.count(" ") == 0
    done = elman("predict", trained, one, "--stream")
    assert done.code == 2


def test_attention_is_drawn_over_the_picture(trained, elman, tmp_path):
    folder = trained.parent / "test"
    done = elman("predict", trained, folder / "100.png", folder / "101.png", "--attention", "o.png")
    assert done.code == 0, done.err
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["o-2.png", "o.png"]
    (answer,) = library.load(trained).predict([folder / "100.png"])
    weights, words, picture = answer.attention
    assert weights.shape == (len(words), 4, 4) and words[-1] == "<end>"
    assert weights.sum((1, 2)) == pytest.approx(np.ones(len(words)), abs=1e-5)
    assert picture.shape == (16, 16, 3)


def test_eval_repeats_the_scores_and_scores_other_files(trained, elman):
    own = json.loads(elman("eval", trained, "--json").out)
    given = json.loads(elman("eval", trained, trained.parent / "test", "--json").out)
    assert own["loss_nats"] == pytest.approx(given["loss_nats"], rel=1e-6)
    assert own["baseline"] == given["baseline"]
    lines = elman("eval", trained).out.splitlines()
    row = next(line.split() for line in lines if line.startswith("exact_match"))
    assert row[1:] == ["1.0000", "0.3333", "1.0000"]
    assert "beside it: most frequent caption, nearest picture's caption" in lines


def test_one_answer_is_that_in_a_batch_and_of_pixels(trained):
    loaded, folder = library.load(trained), trained.parent / "test"
    files = [folder / f"{i}.png" for i in range(100, 109)]
    together = [a.text for a in loaded.predict(files)]
    assert together == [next(loaded.predict([file])).text for file in files]
    pixels = [np.asarray(Image.open(file)) for file in files]
    assert together == [a.text for a in loaded.predict(pixels)]
    large = [np.kron(p, np.ones((3, 3, 1), dtype=np.uint8)) for p in pixels]
    assert together == [a.text for a in loaded.predict(large)]
    with pytest.raises(ShapeError, match=r"must be uint8 \[H, W, 3\]"):
        list(loaded.predict([pixels[0][..., 0]]))
    how = Decoding(max_length=2)
    assert all(len(a.text.split()) <= 2 for a in loaded.predict(files, decoding=how))


KINDS = [
    ["--attention", "none", "--feed-context", "--cell", "gru", "--layers", 2],
    ["--attention", "dot", "--features", 24, "--input-feeding"],
    ["--tie", "--embedding", 24, "--drop-features", 0.1, "--dropout", 0.2, "--tokenizer", "char"],
]


@pytest.mark.parametrize("more", KINDS, ids=lambda more: " ".join(map(str, more)))
def test_every_kind_of_model(elman, tmp_path, more):
    data = written(tmp_path / "data", 12)
    done = train(elman, data, *TINY, *more, "--steps", 2)
    attends = more[1] != "none"
    assert ("attention.png" in done.out) == attends
    drawn = elman("predict", "run", data / "0.png", "--max-length", 5, "--attention", "a.png")
    assert attends == (drawn.code == 0) or "has no attention to draw" in drawn.err


def test_the_embedded_scenes(elman, tmp_path, monkeypatch):
    monkeypatch.setattr("elman.tasks.caption.processor.SCENES", 60)
    done = train(elman, *TINY, "--steps", 1, "--size", 24)
    assert "60 drawn scenes" in done.out and "read as 24 x 24" in done.out
    assert re.search(r"nearest\s*picture's", done.out)


def test_a_cell_of_ones_own_is_named_again(elman, tmp_path):
    (tmp_path / "mine.py").write_text(CELL)
    own = ["--cell", "mine.py:Slow"]
    data = written(tmp_path / "data", 12)
    done = train(elman, data, *TINY, *own, "--steps", 1)
    assert "elman predict run --cell mine.py:Slow picture.png" in done.out
    assert elman("predict", "run", data / "0.png", "--max-length", 3, *own).code == 0


def test_interrupted_and_resumed_is_the_run_that_was_not(resumes, tmp_path):
    data = written(tmp_path / "data", 24)
    options = ["--dropout", 0.2, "--shift", 0.1, "--zoom", 0.1, "--jitter", 0.2, "--flip"]
    resumes("caption", data, *TINY, *options, "--steps", 6, stop=4)


# Data as they come


def test_pictures_of_mixed_sizes_are_read_at_one_which_is_said(elman, tmp_path):
    data = written(tmp_path / "data", 12)
    Image.new("RGB", (40, 10)).save(data / "0.png")
    done = train(elman, data, *TINY, "--steps", 1, "--size", "12x20")
    assert "read as 12 x 20 from 2 sizes" in done.out
    assert elman("predict", "run", data / "0.png", "--max-length", 3).code == 0
    processor = library.load("run").processor
    sizes = Counter({(16, 16): 11, (10, 40): 1})
    processor.options = CaptioningOptions()
    assert processor._chosen(sizes) == [64, 64] and processor._chosen(Counter({(300, 8): 2})) == [
        64,
        64,
    ]
    assert processor._chosen(Counter({(16, 20): 3})) == [16, 20]


def test_a_picture_that_cannot_be_read_stops_or_is_counted(elman, tmp_path):
    data = written(tmp_path / "data", 20)
    (data / "3.png").write_bytes((data / "3.png").read_bytes()[:60])
    (data / "4.png").unlink()
    done = elman("train", "caption", data, *TINY, "--steps", 1, "--out", "run")
    assert done.code == 1 and "4.png" in done.err and "--skip-bad" in done.err
    (data / "4.png").write_text("no picture")
    done = elman("train", "caption", data, *TINY, "--steps", 1, "--out", "run")
    assert done.code == 1 and re.search(r"[34]\.png.*picture.*--skip-bad", done.err)
    assert not (tmp_path / "run").exists()
    done = train(elman, data, *TINY, "--steps", 1, "--skip-bad")
    assert "x picture that cannot be read (first:" in done.out
    counts = map(int, re.search(r"(\d+) train, (\d+) valid", done.out).groups())
    assert sum(counts) == 18
    done = elman("predict", "run", data / "4.png")
    assert done.code == 1 and "4.png" in done.err and "picture" in done.err


def test_a_picture_is_in_one_part_with_all_its_captions(elman, tmp_path):
    data = written(tmp_path / "data", 30)
    train(elman, data, *TINY, "--steps", 1)
    processor = library.load("run").processor
    parts = {
        part: [row["texts"] for row in processor.examples(part)] for part in ("train", "valid")
    }
    assert len(parts["train"]) + len(parts["valid"]) == 30 and len(parts["valid"]) > 3
    assert all(text.count("\n") == 1 for texts in parts.values() for text in texts)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--attention", "aditive"], "did you mean 'additive'"),
        (["--attention", "dot"], "must have one size"),
        (["--feed-context"], "for a model without attention"),
        (["--encoder", "resnet18"], "valid are conv, torchvision:NAME, timm:NAME"),
        (["--encoder", "keras:resnet18"], "unknown library of encoders 'keras'"),
        (["--encoder", "timm:resnet18"], "features is for --encoder conv"),
        (["--freeze"], "freeze is for --encoder torchvision:NAME"),
        (["--shift", 1.5], "shift must be 0 or above and below 1"),
        (["--size", "big"], "a size must be one number or HEIGHTxWIDTH"),
        (["--fit", "squeeze"], "valid are crop, pad, stretch"),
        (["--picture-column", "files"], "did you mean 'file'"),
        (["--images", "nowhere"], "nowhere: is no folder of pictures"),
        (["--tokenizer", "wrod"], "did you mean 'word'"),
    ],
)
def test_options_that_make_no_sense(elman, tmp_path, more, said):
    data = written(tmp_path / "data", 6)
    done = elman("train", "caption", data, *TINY, *more, "--steps", 1, "--out", "run")
    assert done.code in (1, 2)
    assert said in done.err.replace("\n", " "), done.err
    assert not (tmp_path / "run").exists()


# Networks of other libraries


def test_a_library_that_is_not_there(elman, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    data = written(tmp_path / "data", 6)
    encoder = ["--encoder", "torchvision:resnet18", "--hidden", 8]
    done = elman("train", "caption", data, *encoder, "--steps", 1, "--out", "run")
    assert done.code == 2 and "torchvision is not installed" in done.err
    assert "pip install torchvision" in done.err and not (tmp_path / "run").exists()


class Resnet(torch.nn.Module):
    """What torchvision's residual networks are made of, small."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = torch.nn.Conv2d(3, 6, 5, stride=8), torch.nn.BatchNorm2d(6)
        self.avgpool, self.fc = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Linear(6, 10)


@pytest.mark.parametrize("more", [[], ["--freeze"]])
def test_a_network_of_torchvision_is_fetched_once(elman, tmp_path, monkeypatch, more):
    asked = []

    def get_model(name, weights):
        asked.append((name, weights))
        return Resnet()

    models = types.SimpleNamespace(list_models=lambda module=None: ["small"], get_model=get_model)
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(models=models))
    data = written(tmp_path / "data", 12)
    common = ["--hidden", 8, "--batch-size", 4, "--threads", 1, "--size", 32, "--steps", 2]
    common += ["--valid-fraction", 0.3]
    encoder = ["--encoder", "torchvision:small", *more]
    done = train(elman, data, *common, *encoder)
    assert "read as 32 x 32" in done.out
    assert asked[0] == ("small", "DEFAULT") and asked[-1] == ("small", None)
    asked.clear()
    assert elman("predict", "run", data / "0.png", "--max-length", 3).code == 0
    assert asked == [("small", None)]
    model = library.load("run").model
    assert model.feature_size == 6 and model.frozen == bool(more)
    assert model.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    done = elman("train", "caption", data, *common, "--encoder", "torchvision:smal", "--out", "b")
    assert done.code == 2 and "did you mean 'small'" in done.err


# Parts


def test_captions_of_a_batch_come_apart():
    ids = torch.tensor([[1, 2, 9, 3, 9], [9, 4, 4, 4, 9], [5, 9, 0, 0, 0]]).T
    target, lengths, rows = captions_of(ids, torch.tensor([5, 5, 2]), 9)
    assert lengths.tolist() == [2, 1, 0, 3, 1] and rows.tolist() == [0, 0, 1, 1, 2]
    columns = [target[: lengths[n], n].tolist() for n in range(5)]
    assert columns == [[1, 2], [3], [], [4, 4, 4], [5]]


def test_a_caption_is_right_where_it_is_one_of_several():
    wanted = [["a b c d e", "x y"], ["u v w x y"]]
    assert caption_scores(["x y", "u v w x y"], wanted)["exact_match"] == 1
    scores = caption_scores(["a b c d e", "u v w q y"], wanted)
    assert scores["exact_match"] == 0.5 and 0 < scores["bleu"] < 100
    assert scores["bleu_1"] == pytest.approx(90)
    assert caption_scores(["nothing", "else"], wanted)["bleu_1"] == 0


def test_flipping_is_off_unless_it_is_asked_for():
    assert not CaptioningOptions().augment.flip
    assert CaptionProcessor.bucket_by is None
    picture = torch.from_numpy(next(iter(scenes(1, 0)))[0].copy())[None]
    assert torch.equal(CaptioningOptions().augment(picture), picture / 255)
