import shutil

import pytest

from tests.cli.conftest import SMALL


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.txt"], 1, "missing.txt: no such file"),
        (["."], 1, "is a folder"),
        (["empty.txt"], 1, "the file is empty"),
        (["latin.txt"], 1, "--tokenizer byte"),
        (["short.txt"], 1, "--bptt 1 fits"),
        (["text.txt", "--cell", "ltsm"], 2, "did you mean 'lstm'"),
        (["text.txt", "--cell", "mine.py:Cell"], 2, "there is no file"),
        (["text.txt", "--cell-option", "depth=3"], 2, "cannot be built"),
        (["text.txt", "--tokenizer", "chars"], 2, "did you mean 'char'"),
        (["text.txt", "--hidden", "0"], 2, "hidden_size must be"),
        (["text.txt", "--layers", "-1"], 2, "num_layers must be"),
        (["text.txt", "--dropout", "1.5"], 2, "dropout must be a probability"),
        (["text.txt", "--cell", "min-gru", "--variational-dropout", "0.1"], 2, "state_dropout"),
        (["text.txt", "--tie", "--embedding", "5"], 2, "must have one size"),
        (["text.txt", "--hidden", "many"], 2, "Invalid value for '--hidden'"),
        (["text.txt", "--colour", "red"], 2, "No such option"),
        (["text.txt", "--accelerator", "gpuu"], 2, "did you mean 'gpu'"),
        (["text.txt", "--seed", "-1"], 2, "seed must lie in"),
        (["text.txt", "--learning-rate", "1e38"], 2, "learning_rate must be"),
        (["/dev/null"], 1, "no regular file"),
        (["one.txt"], 1, "the least is 2"),
        (["text.txt", "--accelerator", "cuda"], 1, "this machine has none"),
    ],
)
def test_training_says_what_is_wrong_and_makes_no_folder(arguments, code, message, elman, text):
    if "cuda" in arguments:
        import torch

        message = message if not torch.cuda.is_available() else ""
    folder = text.parent
    (folder / "empty.txt").touch()
    (folder / "latin.txt").write_bytes("caf\xe9 ".encode("latin-1") * 100)
    (folder / "one.txt").write_text("x")
    (folder / "short.txt").write_text("too short")
    done = elman("train", "lm", *SMALL, "--steps", 1, "--out", "new", *arguments)
    assert done.code == code, done.err
    assert message in done.err
    assert not (folder / "new").exists()


def test_a_run_that_exists_is_kept(trained, elman, text):
    before = (trained / "model.safetensors").read_bytes()
    done = elman("train", "lm", text, *SMALL, "--out", "run")
    assert done.code == 1
    assert "a run is there already" in done.err
    failed = elman("train", "lm", "missing.txt", *SMALL, "--out", "run", "--force")
    assert failed.code == 1
    assert (trained / "model.safetensors").read_bytes() == before
    assert elman("train", "lm", text, *SMALL, "--steps", 2, "--out", "run", "--force").code == 0
    assert (trained / "model.safetensors").read_bytes() != before


def test_what_is_no_run_is_said(elman, text):
    for command in (["sample", "."], ["eval", ".", text], ["train", "--resume", "."]):
        done = elman(*command)
        assert done.code == 1
        assert "is no run folder" in done.err
    assert "no such folder" in elman("sample", "nowhere").err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--prompt", "Ω"], 1, "never seen 'Ω'"),
        (["--prompt", ""], 2, "the prompt is empty"),
        (["--temperature", "-1"], 2, "temperature must be"),
        (["--top-k", "0"], 2, "top_k must be"),
        (["--top-p", "2"], 2, "top_p must lie"),
        (["--length", "-5"], 2, "length must be"),
    ],
)
def test_sampling_refuses_what_cannot_be(options, code, message, trained, elman):
    done = elman("sample", "run", *options)
    assert done.code == code
    assert message in done.err
    assert done.out == ""


def test_damaged_runs_are_refused(trained, elman, text):
    for name, content, message in [
        ("model.safetensors", b"\x80\x04pickle", "is a pickle"),
        ("model.safetensors", b"\0" * 20, "cannot be read as safetensors"),
        ("tokenizer.json", b"{", "cannot be read as JSON"),
        ("config.json", b'{"format": 1, "task": "chess"}', "task 'chess'"),
        ("config.json", b'{"format": 1, "task": "lm"}', "is damaged or foreign"),
        ("config.json", b"[]", "is no configuration"),
    ]:
        shutil.copytree(trained, "copy", dirs_exist_ok=True)
        (text.parent / "copy" / name).write_bytes(content)
        done = elman("sample", "copy")
        assert done.code == 1, name
        assert message in done.err
        assert "Traceback" not in done.err


def test_eval_refuses_what_is_no_text(trained, elman, text):
    for name, content, message in [
        ("one.txt", b"t", "one token cannot be predicted"),
        ("none.txt", b"", "the file is empty"),
        ("latin.txt", b"caf\xe9", "not UTF-8"),
    ]:
        (text.parent / name).write_bytes(content)
        done = elman("eval", "run", name)
        assert done.code == 1
        assert message in done.err
    assert "no such file" in elman("eval", "run", "missing.txt").err


def test_train_alone_shows_what_there_is(elman):
    done = elman("train")
    assert done.code == 2
    assert "lm" in done.out
