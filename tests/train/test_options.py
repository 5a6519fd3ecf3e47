import re
from dataclasses import asdict

import pytest

from elman.data.core.typed import typed
from elman.errors import OptionError
from elman.tasks.lm.options import LanguageModelOptions
from elman.train.custom_cell import cell_class, cell_options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"keep_weights": "lst"}, "did you mean 'last'"),
        ({"precision": "16"}, "valid are 32, 64, bf16"),
        ({"batch_size": 0}, "batch_size must be a whole number above 0, got 0"),
        ({"bptt": -5}, "bptt must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"threads": 10**6}, "threads must be above 0 and at most 1024"),
        ({"workers": 10**6}, "workers must be at most 1024"),
        ({"minutes": 0.0}, "minutes must be above 0"),
        ({"learning_rate": -1.0}, "learning_rate must be above 0"),
        ({"clip": -1.0}, "clip must be 0 or above"),
        ({"batch_size": 5, "devices": 2}, "cannot be shared evenly"),
        ({"tokenizer": "chars"}, "did you mean 'char'"),
        ({"valid_fraction": 1.0}, "valid_fraction"),
        ({"valid_fraction": 0.0}, "valid_fraction must be above 0"),
        ({"vocab_size": 1}, "at least 2"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        LanguageModelOptions(**options)


def test_options_survive_json():
    options = LanguageModelOptions(hidden=7, valid=["x"], minutes=1.5)
    assert typed(LanguageModelOptions, asdict(options)) == options


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hiden": 3}, "has the unknown field 'hiden'"),
        ({"hidden": "3"}, "hidden must be int, got '3'"),
        ({"hidden": 10**30}, "hidden must be int, got 1000"),
        ({"valid": ["x", 1]}, "valid must be list"),
        ({"minutes": True}, "minutes must be float | None, got True"),
        (["list"], "must be an object"),
        (None, "must be an object"),
    ],
)
def test_foreign_options_are_refused(values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        typed(LanguageModelOptions, values)


def test_ten_epochs_where_nothing_bounds_the_training():
    assert LanguageModelOptions().passes == 10
    assert LanguageModelOptions(minutes=1).passes is None
    assert LanguageModelOptions(steps=5).passes is None
    assert LanguageModelOptions(epochs=2, minutes=1).passes == 2


def test_cell_options_are_read_as_python_values():
    given = ["a=1", "b=0.5", "c=true", "d=None", "e=replace"]
    assert cell_options(given) == {"a": 1, "b": 0.5, "c": True, "d": None, "e": "replace"}
    with pytest.raises(OptionError, match="name=value"):
        cell_options(["update"])


CELL = """
import elman
class Mine(elman.Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, h=hidden_size)
    def step(self, x, h):
        return h
"""


def test_a_cell_comes_from_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(CELL)
    assert cell_class(f"{tmp_path}/mine.py:Mine").__name__ == "Mine"
    with pytest.raises(OptionError, match="did you mean 'Mine'"):
        cell_class(f"{tmp_path}/mine.py:Mina")
    with pytest.raises(OptionError, match="there is no file"):
        cell_class(f"{tmp_path}/yours.py:Mine")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(OptionError, match="ZeroDivisionError"):
        cell_class(f"{tmp_path}/broken.py:Mine")
    with pytest.raises(OptionError, match="did you mean 'gru'"):
        cell_class("grru")
