"""Where in the cell's source a step is while it is traced, and what its author called a value."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
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

#: Tensors in longer lists have no name: they are looked at again at every operation.
MOST_PARTS = 64


class Source:
    """Reads the frames of a cell's file, as a context in which the step runs.

    names: what the author calls a tensor, by its id: the local variable that holds it. The tensors
        themselves are kept too, so that no id is used twice.
    """

    def __init__(self, cell: Cell) -> None:
        kind = parametrize.type_before_parametrizations(cell)
        self.cell = kind.__name__
        self.code: CodeType = inspect.unwrap(cast(type[Cell], kind).step).__code__
        self.file = self.code.co_filename
        self.names: dict[int, str] = {}
        self._held: list[Tensor] = []
        self._outside: FrameType | None = None

    def __enter__(self) -> None:
        self._outside = sys._getframe(1)

    def __exit__(self, *error: object) -> None:
        self._outside = None

    def observe(self) -> None:
        """Note what the variables are called that hold tensors now.

        Called at each operation: what a function computes last is named by its caller's variable,
        or is a result of the step, which has a name.
        """
        # The outermost frame, the step's own, comes last: its name for a tensor is the one kept.
        for frame in self._frames():
            if frame.f_code.co_filename == self.file:
                for name, value in frame.f_locals.items():
                    self._note(name, value)

    def _note(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor):
            if id(value) not in self.names:
                self._held.append(value)
            self.names[id(value)] = name
        elif type(value) in (list, tuple) and len(value) <= MOST_PARTS:
            for k, part in enumerate(value):
                if isinstance(part, Tensor):
                    self._note(f"{name}_{k}", part)

    def _frames(self) -> Iterator[FrameType]:
        """The frames that run inside this context, the innermost first."""
        # Not those that the layer itself was called from, as that of a reentrant checkpoint.
        frames = (frame for frame, _ in walk_stack(sys._getframe(1)))
        return takewhile(lambda frame: frame is not self._outside, frames)

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
        return any(frame.f_code is apply for frame in self._frames())

    def unsupported(
        self, what: str, why: str, error: BaseException | None = None
    ) -> UnsupportedError:
        """The error for what has no rule, with its line."""
        line, function = self._place(error)
        return UnsupportedError(f"{line} {function}: {what} {why}")
