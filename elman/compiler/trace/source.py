"""Where in the cell's source a step is while it is traced, and what its author called a value."""

from __future__ import annotations

import inspect
import sys
from itertools import takewhile
from pathlib import Path
from traceback import walk_stack, walk_tb
from types import CodeType, FrameType
from typing import Any, cast

from torch import Tensor
from torch.autograd.function import Function
from torch.nn.utils import parametrize

from elman.cells.cell import Cell
from elman.errors import UnsupportedError


class Source:
    """Watches the frames of a cell's file, as a context in which the step runs.

    named: (name, tensor), the local variables at the end of each function of the cell's file; the
        step's own, which end last, come last.
    """

    def __init__(self, cell: Cell) -> None:
        kind = parametrize.type_before_parametrizations(cell)
        self.cell = kind.__name__
        self.code: CodeType = inspect.unwrap(cast(type[Cell], kind).step).__code__
        self.file = self.code.co_filename
        self.named: list[tuple[str, Tensor]] = []
        self._outside: FrameType | None = None

    def __enter__(self) -> None:
        self._outside = sys._getframe(1)
        # Names are not worth disturbing a profiler that the user runs.
        if sys.getprofile() is None:
            sys.setprofile(self._on_event)

    def __exit__(self, *error: object) -> None:
        self._outside = None
        if sys.getprofile() == self._on_event:
            sys.setprofile(None)

    def _on_event(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "return" and frame.f_code.co_filename == self.file:
            for name, value in frame.f_locals.items():
                if isinstance(value, Tensor):
                    self.named.append((name, value))
                elif isinstance(value, list | tuple):
                    parts = ((f"{name}_{k}", part) for k, part in enumerate(value))
                    self.named.extend(part for part in parts if isinstance(part[1], Tensor))

    def line(self, error: BaseException | None = None) -> str:
        """The line of the cell's file that runs now, or that failed, as "mgu.py:31"."""
        return self._place(error)[0]

    def _place(self, error: BaseException | None = None) -> tuple[str, str]:
        frames = walk_stack(sys._getframe()) if error is None else walk_tb(error.__traceback__)
        name = Path(self.file).name
        inside = [(f, line) for f, line in frames if f.f_code.co_filename == self.file]
        if not inside:
            return f"{name}:{self.code.co_firstlineno}", self.code.co_name
        frame, line = inside[0 if error is None else -1]
        return f"{name}:{line}", frame.f_code.co_name

    def custom_gradient(self) -> bool:
        """Whether the forward pass of a custom autograd.Function runs."""
        apply = Function.apply.__func__.__code__  # type: ignore[attr-defined]
        # Not one that the layer itself was called from, as that of a reentrant checkpoint.
        frames = (frame for frame, _ in walk_stack(sys._getframe()))
        inside = takewhile(lambda frame: frame is not self._outside, frames)
        return any(frame.f_code is apply for frame in inside)

    def unsupported(
        self, what: str, why: str, error: BaseException | None = None
    ) -> UnsupportedError:
        """The error for what has no rule, with its line."""
        line, function = self._place(error)
        return UnsupportedError(f"{line} {function}: {what} {why}")
