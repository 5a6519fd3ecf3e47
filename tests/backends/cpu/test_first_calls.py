"""Any number of threads may make the first calls of a process."""

from tests.backends.cpu.first_calls import failures


def test_first_calls_from_eight_threads() -> None:
    """The long run is a command: see the module."""
    assert not failures(3)
