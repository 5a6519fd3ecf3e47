"""Where in the cell's source a step is while it is traced, and what its author called a value."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

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
        self.code: CodeType = inspect.unwrap(kind.step).__code__
        self.file = self.code.co_filename
        self.named: list[tuple[str, Tensor]] = []
        self._outer: Any = None

    def __enter__(self) -> None:
        self._outer = sys.getprofile()
        sys.setprofile(self._on_event)

    def __exit__(self, *error: object) -> None:
        sys.setprofile(self._outer)

    def _on_event(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "return" and frame.f_code.co_filename == self.file:
            for name, value in frame.f_locals.items():
                if isinstance(value, Tensor):
                    self.named.append((name, value))
                elif isinstance(value, list | tuple):
                    parts = ((f"{name}[{k}]", part) for k, part in enumerate(value))
                    self.named.extend(part for part in parts if isinstance(part[1], Tensor))

    def line(self) -> str:
        """The line of the cell's file that runs now, as "mgu.py:31"."""
        frame = self._frame()
        number = self.code.co_firstlineno if frame is None else frame.f_lineno
        return f"{Path(self.file).name}:{number}"

    def _frame(self) -> FrameType | None:
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code.co_filename != self.file:
            frame = frame.f_back
        return frame

    def custom_gradient(self) -> bool:
        """Whether the forward pass of a custom autograd.Function runs."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code is not self.code:
            if frame.f_code is Function.apply.__func__.__code__:  # type: ignore[attr-defined]
                return True
            frame = frame.f_back
        return False

    def unsupported(self, what: str, why: str) -> UnsupportedError:
        frame = self._frame()
        function = "step" if frame is None else frame.f_code.co_name
        return UnsupportedError(
            f"{self.line()} {function}: {what} {why}; the layer runs the literal loop"
        )
