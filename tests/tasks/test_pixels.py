import io
import json
import math

import numpy as np
import pytest
from PIL import Image

import elman as library
from elman.data.images.arrays import read_image
from elman.errors import DataError, OptionError
from elman.tasks.base.streaming import answers
from elman.tasks.pixels.options import PixelOptions

SMALL = [
    *("--hidden", 8, "--batch-size", 8, "--threads", 1, "--validate-every", 1000),
    *("--learning-rate", 0.02, "--context", 1),
]


@pytest.fixture(scope="module")
def trained(shared):
    """A run on stripes of 6 x 4 in grey, and the folder of their pictures."""
    folder, train = shared
    (folder / "stripes").mkdir()
    draw = np.random.default_rng(0)
    for number in range(24):
        stripe = np.repeat(draw.integers(0, 2, (1, 4)) * 255, 6, axis=0)
        Image.fromarray(stripe.astype(np.uint8)).save(folder / "stripes" / f"{number:02}.png")
    train("pixels", "stripes", *SMALL, "--levels", 4, "--steps", 60, "--out", "run")
    return folder


def test_a_run_has_scores_and_pictures(trained):
    scores = json.loads((trained / "run/scores.json").read_text())
    assert scores["bits_per_dim"] == pytest.approx(scores["loss_nats"] / (24 * math.log(2)))
    # All but the first row follows from it.
    assert scores["loss_nats"] < 8 < 14 < scores["baseline"]["loss_nats"]
    assert scores["baseline"]["name"] == "independent pixels"
    assert read_image(trained / "run/samples.png").shape[1] == 10 * (4 * 16 + 2) + 2
    assert read_image(trained / "run/completions.png").shape[0] == 6 * (6 * 16 + 2) + 2


def test_a_saved_run_draws_completes_and_scores(trained):
    loaded = library.load(trained / "run")
    one, two = (list(loaded.generate(3, seed=4)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert one[0].shape == (6, 4, 1) and set(np.unique(one)) <= {0, 85, 170, 255}
    prompt = trained / "stripes/03.png"
    given = read_image(prompt, mode="grey")
    completed = list(loaded.generate(2, prompt=prompt, prompt_length=2, seed=0))
    assert len(completed) == 2 and all((p[:2] == given[:2]).all() for p in completed)
    greedy = next(loaded.generate(1, prompt=prompt, temperature=0))
    assert (greedy == given).mean() > 0.8
    assert len(list(loaded.generate(5, prompt=trained / "stripes"))) == 5
    assert "\n" in loaded.line(one[0]) and np.shape(loaded.record(one[0])["picture"]) == (6, 4)
    nats = [a.record["nats"] for a in loaded.predict(loaded.read_inputs(trained / "stripes"))]
    whole = loaded.evaluate(trained / "stripes")
    assert np.mean(nats) == pytest.approx(whole["loss_nats"], rel=1e-5)
    noise = np.random.default_rng(1).integers(0, 256, (6, 4)).astype(np.uint8)
    Image.fromarray(noise).save(trained / "noise.png")
    (odd,) = loaded.predict([loaded.parse(str(trained / "noise.png"))])
    assert odd.record["nats"] > max(nats)
    with pytest.raises(DataError, match="holds several pictures"):
        loaded.parse(str(trained / "stripes"))
    with pytest.raises(OptionError, match=r"prompt_length must lie in 0 \.\.\. 6"):
        list(loaded.generate(1, prompt=prompt, prompt_length=7))
    with pytest.raises(OptionError, match="prompt_length is of a --prompt"):
        list(loaded.generate(1, prompt_length=2))


def test_rows_from_standard_input_are_scored_as_they_come(trained):
    loaded = library.load(trained / "run")
    pictures = list(loaded.read_inputs(trained / "stripes"))[:2]
    lines = [" ".join(map(str, row)) for p in pictures for row in p.pixels[..., 0]]
    found = list(answers(loaded.stream(), io.BytesIO("\n".join(lines).encode())))
    assert [a.record["row"] for a in found] == [*range(6), *range(6)]
    each = [sum(a.record["nats"] for a in found[i : i + 6]) for i in (0, 6)]
    wanted = [a.record["nats"] for a in loaded.predict(pictures)]
    assert each == pytest.approx(wanted, rel=1e-4)
    for wrong in (b"1 2 3\n", b"1 2 3 256\n", b"a b c d\n"):
        with pytest.raises(DataError, match="a row is 4 whole numbers"):
            list(answers(loaded.stream(), io.BytesIO(wrong)))


def test_the_commands(elman, trained, tmp_path):
    run, stripe = trained / "run", trained / "stripes/00.png"
    done = elman("sample", run, "--count", 2, "--seed", 1, "--out", "sheet.png")
    assert done.code == 0, done.err
    assert read_image(tmp_path / "sheet.png").shape[1] == 2 * (4 * 16 + 2) + 2
    done = elman("sample", run, "--prompt", stripe, "--count", 3, "--out", "done.png")
    assert done.code == 0, done.err
    done = elman("sample", run, "--count", 1, "--json")
    assert np.shape(json.loads(done.out)["picture"]) == (6, 4)
    done = elman("predict", run, stripe, "--json")
    assert json.loads(done.out)["nats"] < json.loads(done.out)["independent_nats"]
    done = elman("eval", run, trained / "stripes")
    assert done.code == 0 and "bits_per_dim" in done.out and "independent pixels" in done.out
    done = elman("predict", run, tmp_path / "none.png")
    assert done.code == 1 and "no such file" in done.err


def test_colour_in_an_order_of_its_own_mended_in_size(elman, tmp_path):
    (tmp_path / "photos").mkdir()
    draw = np.random.default_rng(0)
    for number, size in enumerate([(40, 20, 3)] * 29 + [(10, 30, 3)]):
        pixels = draw.integers(0, 256, size).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{number}.png")
    (tmp_path / "photos/bad.png").write_bytes(b"none")
    more = ["--colour", "--permute", 1, "--size", "4x3", "--steps", 2, "--out", "run", *SMALL]
    done = elman("train", "pixels", "photos", *more)
    assert done.code == 1 and "bad.png" in done.err and "--skip-bad" in done.err
    done = elman("train", "pixels", "photos", *more, "--skip-bad", "--force")
    assert done.code == 0, done.err
    assert "1 x picture that cannot be read" in done.out and "4x3 pixels" in done.out
    loaded = library.load(tmp_path / "run")
    assert next(loaded.generate(1)).shape == (4, 3, 3)
    with pytest.raises(OptionError, match="order of its own"):
        loaded.stream()
    order = loaded.model.order.numpy()
    given = np.arange(36) % 16
    (found,) = loaded.complete([given], 2)
    kept = loaded.processor.picture_of(given).ravel()[order[:18]]
    assert (found.ravel()[order[:18]] == kept).all()
    # Without a size the first picture's, at most 32, and others brought to it.
    more = ["--steps", 1, "--out", "other", "--skip-bad", *SMALL, "--batch-size", 2]
    done = elman("train", "pixels", "photos", *more)
    assert done.code == 0, done.err
    assert "32x16 pixels" in done.out and "picture brought to 32x16 (crop)" in done.out


def test_a_resumed_run_is_the_run_that_was_never_interrupted(resumes, trained):
    more = ["--dropout", 0.3, "--steps", 6, "--validate-every", 3]
    files = ["scores.json", "samples.png", "completions.png"]
    resumes("pixels", trained / "stripes", *SMALL, *more, stop=4, files=files)


def test_options_that_make_no_sense_are_refused_before_anything_is_made(elman, tmp_path):
    for options, message in (
        (["--levels", 1], "levels must lie in 2 ... 256"),
        (["--context", -1], "context must be 0 or above"),
        (["--permute", -1], "permute must be a seed"),
        (["--size", "big"], "a size must be"),
        (["--fit", "cut"], "unknown fit 'cut'"),
        (["--max-length", 3], "a picture is generated whole"),
    ):
        done = elman("train", "pixels", "--out", "none", *options)
        assert done.code == 2 and message in done.err, done.err
        assert not (tmp_path / "none").exists()
    assert PixelOptions().passes == 20
