"""What all tests share."""

import pytest
import torch

from elman.backends import notices

# Small sizes: a second thread costs more than it saves.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _told_anew(monkeypatch):
    """What is told once in a process is told once in each test."""
    monkeypatch.setattr(notices, "_said", set())


@pytest.fixture
def float64():
    """New tensors and parameters are float64 and drawn from one seed."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)
