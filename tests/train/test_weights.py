import pickle

import pytest
import torch

from elman.errors import RunError
from elman.models import LanguageModel
from elman.train.checkpoint import (
    Checkpoint,
    Position,
    checkpoints_in,
    flatten,
    load_checkpoint,
    save_checkpoint,
    unflatten,
)
from elman.train.weights import load_built, load_model, load_tensors, save_model, save_tensors


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.fixture
def saved(tmp_path):
    model = LanguageModel(7, 5, tie_weights=True)
    save_model(tmp_path / "model.safetensors", model)
    return model, tmp_path / "model.safetensors"


def test_saved_weights_come_back(saved):
    model, path = saved
    other = LanguageModel(7, 5, tie_weights=True)
    load_model(path, other)
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_pickle_is_refused_and_never_opened(tmp_path):
    path = tmp_path / "model.safetensors"
    evil = Evil(tmp_path / "trace")
    for write in (torch.save, pickle.dump):
        with path.open("wb") as file:
            write(evil, file)
        with pytest.raises(RunError, match="is a pickle"):
            load_model(path, LanguageModel(7, 5))
    assert not evil.trace.exists()


def test_no_length_of_the_header_makes_weights_look_like_a_pickle(tmp_path):
    first_bytes = set()
    for length in range(1, 140):
        save_tensors(tmp_path / "x.safetensors", {"n" * length: torch.ones(2)})
        first_bytes.add((tmp_path / "x.safetensors").read_bytes()[0])
        assert load_tensors(tmp_path / "x.safetensors")["n" * length].tolist() == [1, 1]
    assert 0x80 in first_bytes


def test_damaged_weights_are_refused(saved):
    model, path = saved
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], data[:3], b"", b"GARBAGE" * 99):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match="cannot be read as safetensors"):
            load_model(path, model)


def test_the_weights_of_another_model_are_refused(saved):
    _, path = saved
    with pytest.raises(RunError, match=r"tensor '.*' is \[.*the model needs"):
        load_model(path, LanguageModel(7, 6, tie_weights=True))
    with pytest.raises(RunError, match="lacks tensor"):
        load_model(path, LanguageModel(7, 5, 2, tie_weights=True))
    with pytest.raises(RunError, match="unknown tensor"):
        load_model(path, LanguageModel(7, 5, cell="min-gru", tie_weights=True))


def test_weights_that_are_not_finite_are_refused(saved):
    model, path = saved
    with torch.no_grad():
        model.output.bias[0] = torch.nan
    save_model(path, model)
    with pytest.raises(RunError, match="not finite"):
        load_model(path, model)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(RunError, match="no such file"):
        load_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("depth", ["tensor", "flat", "nested", "none"])
def test_a_nest_of_states_survives(depth):
    a, b, c = torch.randn(3, 2, 2)
    state = {"tensor": a, "flat": (a, b), "nested": (a, (b, c)), "none": None}[depth]
    again = unflatten(flatten(state))
    assert flatten(again).keys() == flatten(state).keys()
    assert all(torch.equal(flatten(again)[k], v) for k, v in flatten(state).items())
    assert type(again) is type(state)


def test_a_long_nest_keeps_its_order():
    state = tuple(torch.tensor([float(i)]) for i in range(12))
    assert [s.item() for s in unflatten(flatten(state))] == list(range(12))


def test_old_checkpoints_go_and_new_ones_come_back(tmp_path):
    tensors = {"w": torch.randn(3)}
    for step in (1, 5, 20):
        position = Position(step, 1.5, [2.0, 1.0])
        save_checkpoint(tmp_path, Checkpoint(position, tensors, tensors, {}), keep=2)
    found = checkpoints_in(tmp_path)
    assert [p.name for p in found] == ["step-000000005", "step-000000020"]
    loaded = load_checkpoint(found[-1])
    assert loaded.position == position
    assert torch.equal(loaded.model["w"], tensors["w"])
    assert loaded.carried == {}


def test_a_model_far_larger_than_its_weights_is_never_built(saved):
    model, path = saved
    assert load_built(lambda: LanguageModel(7, 5, tie_weights=True), path).state_dict().keys() == (
        model.state_dict().keys()
    )
    for hidden, layers in ((10**6, 1), (5, 10**9)):
        with pytest.raises(ValueError, match="far larger than its weights"):
            load_built(lambda h=hidden, n=layers: LanguageModel(7, h, n), path)
