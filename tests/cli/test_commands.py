import json
import math

import pytest
import torch

import elman as library
from elman.cells import CELLS


def test_help_teaches(elman):
    assert "elman train lm --minutes 3" in elman("--help").out
    for command in (["train", "lm"], ["train"], ["sample"], ["eval"], ["cells"]):
        done = elman(*command, "--help")
        assert done.code == 0
        assert "elman " + command[0] in done.out.replace("Usage:", "", 1)


def test_the_cells_are_listed_with_equations_and_counts(elman):
    out = elman("cells", "--input-size", 10, "--hidden-size", 20).out
    for name, cell in CELLS.items():
        count = sum(p.numel() for p in cell(10, 20).parameters())
        assert f"{name}  {count:,} parameters" in out
    assert "c' = f * c + i * g" in out


def test_one_cell_is_described_whole(elman):
    assert "Source: Cho et al. 2014" in elman("cells", "gru").out
    assert elman("cells", "gruu").code == 2


def test_sampling_streams_the_prompt_and_the_text(trained, elman):
    options = ["run", "--prompt", "the ", "--length", 30, "--seed", 4]
    one, two = elman("sample", *options).out, elman("sample", *options).out
    assert one == two
    assert one.startswith("the ")
    assert len(one) == 4 + 30 + 1
    assert elman("sample", *options[:-1], 5).out != one


def test_sampling_shows_what_the_model_held_each_token_for(trained, elman):
    options = ["run", "--prompt", "the ", "--length", 60, "--seed", 4, "--top-k", 3]
    text = elman("sample", *options).out[4:-1]
    lines = elman("sample", *options, "--probabilities").out.removesuffix("\n").split("\n")
    pairs = [line.split("\t") for line in lines]
    assert "".join(token for token, _ in pairs) == text.replace("\n", "\\n")
    loaded = library.load(trained)
    ids = torch.from_numpy(loaded.tokenizer.encode("the " + text))[:, None]
    with torch.no_grad():
        p = loaded.model(ids)[0].softmax(-1)
    wanted = [p[3 + i, 0, ids[4 + i, 0]].item() for i in range(60)]
    assert [float(shown) for _, shown in pairs] == pytest.approx(wanted, abs=2e-6)


@pytest.mark.parametrize("option", ["--count=2", "--label=a", "--out=a.png"])
def test_sampling_names_what_a_language_model_does_not_take(option, trained, elman):
    done = elman("sample", "run", option)
    assert done.code == 2
    assert f"takes no {option.split('=')[0]}; it takes --prompt, --length" in done.err


def test_greedy_sampling_needs_no_seed(trained, elman):
    options = ["sample", "run", "--temperature", 0, "--length", 20]
    assert elman(*options).out == elman(*options).out


def test_eval_measures_the_whole_file_with_the_state_carried(trained, elman):
    text = "the lazy fox\n" * 50
    (trained.parent / "new.txt").write_text(text)
    scores = json.loads(elman("eval", "run", "new.txt", "--json").out)
    loaded = library.load(trained)
    ids = torch.from_numpy(loaded.tokenizer.encode(text))[:, None]
    with torch.no_grad():
        loss = loaded.model.loss(ids[:-1], ids[1:]).mean
    assert scores["loss_nats"] == pytest.approx(loss.item(), rel=1e-4)
    total = scores["loss_nats"] * scores["tokens"]
    assert scores["bits_per_char"] == pytest.approx(total / (len(text) - 1) / math.log(2))
    assert scores["perplexity_per_token"] == pytest.approx(math.exp(scores["loss_nats"]))
    assert scores["perplexity_per_word"] == pytest.approx(math.exp(total / 150))
    assert (scores["tokens"], scores["characters"], scores["words"]) == (649, 650, 150)
    assert "bits_per_char" in elman("eval", "run", "new.txt").out


def test_eval_counts_what_the_model_has_never_seen(trained, elman):
    (trained.parent / "new.txt").write_text("the Ω\n" * 5)
    assert json.loads(elman("eval", "run", "new.txt", "--json").out)["unknown_tokens"] == 5


def test_eval_without_a_file_is_on_the_validation_part(trained, elman):
    scores = json.loads(elman("eval", "run", "--json").out)
    text = (trained.parent / "text.txt").read_text()
    (trained.parent / "valid.txt").write_text(text[int(len(text) * 0.9) :])
    given = json.loads(elman("eval", "run", "valid.txt", "--json").out)
    assert scores.pop("part") == "valid" and scores == pytest.approx(given)


def test_eval_may_learn_as_it_reads(trained, elman):
    (trained.parent / "new.txt").write_text("over the fox jumps a lazy dog\n" * 30)
    whole = json.loads(elman("eval", "run", "new.txt", "--json").out)
    learning = json.loads(elman("eval", "run", "new.txt", "--dynamic", "--json").out)
    assert learning["tokens"] == whole["tokens"]
    assert learning["loss_nats"] < whole["loss_nats"] - 0.05
    again = json.loads(elman("eval", "run", "new.txt", "--dynamic", "--json").out)
    assert again == learning
    still = elman("eval", "run", "new.txt", "--dynamic", "--dynamic-rate", 0, "--json")
    assert json.loads(still.out) == pytest.approx(whole, rel=1e-5)
    assert elman("eval", "run", "new.txt", "--dynamic-rate", 1).code == 2


def test_a_sample_as_json_has_tokens_and_probabilities(trained, elman):
    how = ["sample", "run", "--prompt", "the ", "--length", 12, "--seed", 1]
    found = json.loads(elman(*how, "--json").out)
    assert found["prompt"] + found["text"] + "\n" == elman(*how).out
    assert "".join(found["tokens"]) == found["text"]
    lines = elman(*how, "--probabilities").out.splitlines()
    said = [float(line.split("\t")[1]) for line in lines]
    assert said == pytest.approx(found["probabilities"], abs=1e-6)


def test_lines_are_gone_on_with(trained, elman):
    (done,) = [json.loads(elman("predict", "run", "the quick brown", "--json").out)]
    assert len(done["tokens"]) == len(done["probabilities"])
    log_p = sum(map(math.log, done["probabilities"]))
    assert done["log_probability"] == pytest.approx(log_p, rel=1e-5)
    # As when the model reads it all.
    loaded = library.load(trained)
    ids = torch.from_numpy(loaded.tokenizer.encode(done["prompt"] + "".join(done["tokens"])))
    logits, _ = loaded.model(ids[:-1, None])
    p = logits[:, 0].softmax(-1).gather(1, ids[1:, None])[-len(done["tokens"]) :, 0]
    assert done["probabilities"] == pytest.approx(p.tolist(), rel=1e-4)
    # One alone is that in a batch of prompts of other lengths.
    found = list(loaded.predict(["t", "", "the quick brown"]))
    assert found[2].record["tokens"] == done["tokens"]
    assert found[1].record == {"left_out": "the input is empty"} and len(found) == 3
    best = json.loads(elman("predict", "run", "the", "--beams", 4, "--n-best", 4, "--json").out)
    ranked = [one["log_probability"] for one in best["n_best"]]
    assert ranked == sorted(ranked, reverse=True) and len(ranked) == 4
    done = elman("predict", "run", "the", "Ω")
    assert done.code == 1 and "input 2: the model has never seen 'Ω'" in done.err
