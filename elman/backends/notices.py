"""What a user is told once: that a slower path runs, and why."""

import warnings

_said: set[str] = set()


def say_once(notice: str, stacklevel: int = 3) -> None:
    """Warn of it where it has not been said in this process."""
    if notice not in _said:
        _said.add(notice)
        warnings.warn(notice, RuntimeWarning, stacklevel=stacklevel)
