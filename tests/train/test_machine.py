import subprocess
import sys

import torch

from elman.train.machine import without_denormals

TINY = 2.0**-140


def is_zero():
    return not torch.tensor(TINY).mul(1.0)


def test_denormals_are_zero_inside_alone():
    assert not is_zero()
    with without_denormals():
        assert is_zero()
        with without_denormals():
            pass
        assert is_zero()
    assert not is_zero()


def test_threads_that_are_started_inside_take_them_for_zero_too():
    program = f"""
import torch
from elman.train.machine import without_denormals
tiny = torch.tensor({TINY})
with without_denormals():
    torch.set_num_threads(2)
    assert not tiny.expand(4_000_000).contiguous().mul(1.0).any()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
