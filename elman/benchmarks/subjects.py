"""The cells that are measured, and which of torch.nn's modules each one is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

import elman
from elman.benchmarks.own_cells import TracedMGU
from elman.cells import CELLS, GRU, Cell, StackedCell
from elman.errors import OptionError, unknown
from elman.train.custom_cell import cell_class


@dataclass(frozen=True)
class Subject:
    """A cell under its name on the command line.

    build: the cell of (input_size, hidden_size). torch_nn: the module of torch.nn with the same
    equation, which is also that of elman; None: there is none.
    """

    name: str
    build: Callable[[int, int], Cell]
    torch_nn: str | None = None

    def make(self, size: int) -> Cell:
        """The cell with as many inputs as units, the same at each call."""
        torch.manual_seed(0)
        try:
            return self.build(size, size)
        except TypeError as error:
            raise OptionError(
                f"--cell {self.name}: cannot be built as cell(input_size, hidden_size): {error}"
            ) from error

    def layer(self, cell: Cell) -> torch.nn.Module:
        """elman's layer with the values of this cell."""
        if self.torch_nn is None:
            return elman.Recurrent(cell)
        return self._filled(getattr(elman, self.torch_nn), cell)

    def peer(self, cell: Cell) -> torch.nn.Module | None:
        """torch.nn's layer with the values of this cell, if there is one."""
        if self.torch_nn is None:
            return None
        return self._filled(getattr(torch.nn, self.torch_nn), cell)

    def _filled(self, kind: type[torch.nn.Module], cell: Cell) -> torch.nn.Module:
        layer = kind(cell.input_size, cell.output_size)
        layer.load_state_dict({f"{name}_l0": p for name, p in cell.state_dict().items()})
        return layer


def _built_in(kind: Callable[..., StackedCell], **options: bool) -> Callable[[int, int], Cell]:
    # torch's first values: no cell explodes over 1024 steps with them.
    return partial(kind, init="torch", **options)


def _subjects() -> dict[str, Subject]:
    modules = {"lstm": "LSTM", "gru": "GRU", "elman": "RNN"}
    found = {n: Subject(n, _built_in(kind), modules.get(n)) for n, kind in CELLS.items()}
    found["reset-before-gru"] = Subject("reset-before-gru", _built_in(GRU, reset_after=False))
    found["custom"] = Subject("custom", TracedMGU)
    return found


SUBJECTS = _subjects()
#: Those that the speed of every version is judged by.
CLASSIC = ("LSTM", "GRU", "Elman")
OTHERS = (
    *("layer-norm-lstm", "peephole-lstm", "reset-before-gru", "slstm", "projected-lstm"),
    *("jordan", "custom"),
)


def subject_named(name: str) -> Subject:
    """A subject by name in any case, or a user's cell as path.py:ClassName; OptionError."""
    if ":" in name:
        return Subject(name, cell_class(name))
    if name.lower() not in SUBJECTS:
        raise unknown("cell", name, [*SUBJECTS, "path.py:ClassName"])
    return SUBJECTS[name.lower()]
