"""What a user is told once: that a slower path runs, and why."""

import os
import sys
import warnings
from pathlib import Path

import torch

_said: set[str] = set()
#: Where code lies that is not the user's.
_INSIDE = tuple(f"{Path(at).parent}{os.sep}" for at in (Path(__file__).parent, torch.__file__))


def say_once(notice: str) -> None:
    """Warn of it, at the line of the user's that led here, where it has not been said in this
    process."""
    if notice not in _said:
        _said.add(notice)
        warnings.warn(notice, RuntimeWarning, stacklevel=_to_user())


def _to_user() -> int:
    """How far up the stack the first frame is that is neither elman's nor torch's."""
    caller = level = 2
    frame = sys._getframe(caller)
    while frame.f_code.co_filename.startswith(_INSIDE):
        if frame.f_back is None:
            return caller
        frame, level = frame.f_back, level + 1
    return level
