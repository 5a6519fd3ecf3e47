"""Every built-in cell with each of its options."""

import inspect
from dataclasses import dataclass, field
from typing import Any

from elman import cells
from elman.cells import Cell
from tests.cells.reference import REFERENCE
from tests.support import randomise


@dataclass(frozen=True)
class Case:
    """A cell with its options; the NumPy reference takes those that change its equation."""

    cell: type[Cell]
    options: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[int, int] = (3, 2)

    def build(self) -> Cell:
        """The cell with every parameter drawn at random."""
        return randomise(self.cell(*self.sizes, **self.options))

    def reference(self, parameters, x, *state):
        """One step in NumPy: the tuple of the new parts of the state."""
        name = self.cell.__name__
        assert name in REFERENCE, f"write one step of {name} in tests/cells/reference.py"
        step = REFERENCE[name]
        known = inspect.signature(step).parameters
        options = {name: value for name, value in self.options.items() if name in known}
        return step(parameters, x, *state, **options)

    def __str__(self) -> str:
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.cell.__name__}({','.join(map(str, self.sizes))}{options and ',' + options})"


ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity", "softmax")

#: One case a cell, as it comes.
PLAIN = [Case(cell) for cell in cells.CELLS.values()]

#: The options that change an equation.
OPTIONS = [
    *(Case(cells.Elman, {"activation": name}) for name in ACTIVATIONS[1:]),
    *(Case(cells.IndRNN, {"activation": name}) for name in ACTIVATIONS if name != "relu"),
    *(Case(cells.Jordan, {"activation": name}) for name in ACTIVATIONS[1:]),
    *(Case(cells.Jordan, {"output_activation": name}) for name in ACTIVATIONS),
    Case(cells.Jordan, {"output_size": 4}),
    Case(cells.Jordan, {"output_size": 1, "output_activation": "sigmoid", "bias": False}),
    Case(cells.GRU, {"reset_after": True, "update": "replace"}),
    Case(cells.GRU, {"reset_after": False, "update": "keep"}),
    Case(cells.GRU, {"reset_after": False, "update": "replace"}),
    Case(cells.GRU, {"reset_after": False, "bias": False}),
    *(
        Case(cells.RHN, {"coupled": coupled, "depth": depth})
        for coupled in (True, False)
        for depth in (1, 2, 3)
    ),
    Case(cells.RHN, {"coupled": False, "bias": False}),
    Case(cells.SLSTM, {"forget": "exp"}),
    Case(cells.SRU, sizes=(2, 2)),
    Case(cells.SRU, {"bias": False}, sizes=(2, 2)),
    Case(cells.ProjectedLSTM, {"proj_size": 2}, sizes=(3, 3)),
    Case(cells.CfC, {"timed": True}),
    Case(cells.CfC, {"backbone_size": 4}),
    Case(cells.CfC, {"timed": True, "backbone_size": 1, "bias": False}),
]

#: Every cell without biases.
UNBIASED = [Case(cell, {"bias": False}) for cell in cells.CELLS.values()]

CASES = PLAIN + OPTIONS + UNBIASED
