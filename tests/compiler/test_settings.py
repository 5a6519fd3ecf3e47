"""ELMAN_DEBUG and ELMAN_CHECK: what they print, and what they refuse."""

import pytest
import torch

from elman import settings
from elman.backends.cpu.engine import LLVM
from elman.cells import MGU
from elman.compiler.pipeline import compile_cell
from elman.errors import OptionError


@pytest.mark.parametrize(
    ("level", "there", "absent"),
    [
        ("", (), ("elman:",)),
        ("0", (), ("elman:",)),
        ("1", ("MGU, trace: ", " ms"), ("the plan",)),
        ("2", ("MGU, trace: ", "MGU, the plan", "d_h = "), ("after simplify",)),
        ("3", ("MGU, the plan", "MGU after trace", "MGU after simplify", "n = tanh("), ()),
    ],
)
def test_each_level_prints_more(monkeypatch, capsys, level, there, absent):
    monkeypatch.setenv("ELMAN_DEBUG", level)
    compile_cell(MGU(3, 4))
    out, err = capsys.readouterr()
    assert out == ""
    assert [word for word in there if word not in err] == []
    assert [word for word in absent if word in err] == []


def test_code_and_assembly(monkeypatch, capsys):
    monkeypatch.setenv("ELMAN_DEBUG", "4")
    plan = compile_cell(MGU(3, 5))
    assert LLVM().program(plan, torch.float64).inference.source
    err = capsys.readouterr().err
    assert "the loop 'inference' as emitted" in err and "define " in err
    assert "in assembly" not in err
    monkeypatch.setenv("ELMAN_DEBUG", "5")
    plan = compile_cell(MGU(3, 6))
    assert LLVM().program(plan, torch.float64).inference.source
    err = capsys.readouterr().err
    assert "the loop 'inference' in assembly" in err and ".text" in err


@pytest.mark.parametrize(
    ("name", "value", "read", "valid"),
    [
        ("ELMAN_DEBUG", "6", settings.debug, "valid are 0, 1, 2, 3, 4, 5"),
        ("ELMAN_DEBUG", "yes", settings.debug, "unknown level of ELMAN_DEBUG 'yes'"),
        ("ELMAN_CHECK", "2", settings.check, "valid are 0, 1"),
        ("ELMAN_BACKEND", "cuda", settings.backend, "valid are auto, llvm, eager, loop"),
    ],
)
def test_an_unknown_value_lists_the_valid_ones(monkeypatch, name, value, read, valid):
    monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=valid):
        read()


def test_check_is_off_by_default(monkeypatch):
    monkeypatch.delenv("ELMAN_CHECK", raising=False)
    assert not settings.check()
    monkeypatch.setenv("ELMAN_CHECK", "1")
    assert settings.check()
