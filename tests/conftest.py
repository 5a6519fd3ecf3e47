"""What all tests share."""

import pytest
import torch

from elman.backends import notices

# Small sizes: a second thread costs more than it saves.
torch.set_num_threads(1)


#: Tests of half a minute and more. They come first, so that no worker waits for them at the end.
LONG = {
    "test_two_thousand_programs_are_as_the_loop",
    "test_first_calls_from_eight_threads",
    "test_two_processes_train_together_and_resume",
    "test_every_precision_resumes_to_the_same_weights",
    "test_a_damaged_checkpoint_gives_way_to_the_one_before",
    "test_kernels_of_a_random_cell",
    "test_inductor_equals_eager_mode",
}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: getattr(item, "originalname", "") not in LONG)


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
