"""Cells whose weights are stacked by gate, and how they are initialised."""

import math
from typing import TypedDict

import torch
from torch import Tensor, nn

from elman.cells.cell import Cell
from elman.errors import OptionError, require_positive, unknown

INITS = ("orthogonal", "torch", "identity", "chrono")


class Setup(TypedDict, total=False):
    """What every built-in cell takes by keyword beside its own options.

    init: "orthogonal" (the default: orthogonal U, Xavier W, forget bias 1), "torch" (all uniform
        in +-1/sqrt(H), as torch.nn draws), "identity" (U = 1, W ~ N(0, 0.001^2): Le et al. 2015)
        or "chrono" (forget bias log U(1, t_max - 1): Tallec & Ollivier 2018, section 3).
    t_max: the longest dependency expected, in steps; "chrono" needs it.
    """

    init: str
    t_max: int | None
    device: torch.device | str | None
    dtype: torch.dtype | None


class StackedCell(Cell):
    """A cell with weights [G*H, ...]: a block of H rows for each gate, as torch.nn stacks them."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    #: Of the parameters, where the cell is the equation of a layer and has no values.
    shapes: dict[str, tuple[int, ...]]
    #: The gates in the order of their blocks.
    gates: tuple[str, ...] = ()
    #: The gates that decide how long the state is kept: +1 an open gate keeps, -1 it forgets.
    keeps: dict[str, int] = {}
    forget_bias: float | None = None

    def __init__(self, input_size: int, hidden_size: int, **state_sizes: int) -> None:
        require_positive(hidden_size=hidden_size)
        super().__init__(input_size, **(state_sizes or {"h": hidden_size}))
        self.hidden_size = hidden_size

    def build(self, setup: Setup, **shapes: tuple[int, ...] | None) -> None:
        """Make the parameters of these shapes (None: absent) and give them their first values."""
        for name in setup.keys() - Setup.__annotations__.keys():
            raise TypeError(f"{type(self).__name__} got an unexpected keyword argument '{name}'")
        for name, shape in shapes.items():
            empty = None
            if shape is not None:
                data = torch.empty(shape, device=setup.get("device"), dtype=setup.get("dtype"))
                empty = nn.Parameter(data)
            self.register_parameter(name, empty)
        self.reset_parameters(setup.get("init", "orthogonal"), setup.get("t_max"))

    def reset_parameters(self, init: str = "orthogonal", t_max: int | None = None) -> None:
        """Draw the parameters anew; `Setup` says what ``init`` and ``t_max`` mean."""
        if init not in INITS:
            raise unknown("init", init, INITS)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if init == "torch" and name.startswith(("weight", "bias")):
                    nn.init.uniform_(parameter, -1 / self._root, 1 / self._root)
                else:
                    self._recommended(name, parameter)
            if init == "identity":
                self._identity()
            self._keep_long(init, t_max)

    @property
    def _root(self) -> float:
        return math.sqrt(self.hidden_size)

    def _recommended(self, name: str, parameter: Tensor) -> None:
        if name.startswith("gain"):
            nn.init.ones_(parameter)
        elif name.startswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() == 1:
            nn.init.uniform_(parameter, -1 / self._root, 1 / self._root)
        else:
            draw = (
                nn.init.orthogonal_ if name in self.recurrent_weights else nn.init.xavier_uniform_
            )
            for block in self._blocks(parameter):
                if not block.is_meta:
                    draw(block)

    def _blocks(self, parameter: Tensor) -> list[Tensor]:
        """The matrices that a stacked weight is made of: one a gate, for each layer of it."""
        matrices = parameter.reshape(-1, *parameter.shape[-2:])
        rows = matrices.shape[1]
        height = self.hidden_size if rows % self.hidden_size == 0 else rows
        return [block for matrix in matrices for block in matrix.split(height)]

    def _identity(self) -> None:
        blocks = [b for name in self.recurrent_weights for b in self._blocks(getattr(self, name))]
        if len(blocks) != 1 or blocks[0].shape[0] != blocks[0].shape[1]:
            raise OptionError(
                f"init='identity' needs one square recurrent matrix; {type(self).__name__} has "
                f"{[tuple(b.shape) for b in blocks]}; use init='orthogonal', or the Elman cell"
            )
        nn.init.eye_(blocks[0])
        nn.init.normal_(self.weight_ih, std=0.001)

    def _keep_long(self, init: str, t_max: int | None) -> None:
        """Forget bias, or chrono: Tallec & Ollivier 2018, eq. 16, b_f ~ log U(1, t_max - 1)."""
        if init == "chrono":
            if not self.keeps or getattr(self, "bias_ih", None) is None:
                raise OptionError(
                    f"init='chrono' needs a cell with biased gates that keep the state; "
                    f"{type(self).__name__} has none; use init='orthogonal'"
                )
            if t_max is None or t_max < 3:
                raise OptionError(
                    f"init='chrono' needs t_max, the longest dependency in steps, at least 3; "
                    f"got {t_max!r}"
                )
            drawn = torch.empty(self.hidden_size, device="cpu").uniform_(1, t_max - 1).log_()
            for gate, sign in self.keeps.items():
                self._set_bias(gate, sign * drawn)
        elif self.forget_bias is not None:
            if getattr(self, "bias_ih", None) is None:
                raise OptionError("forget_bias needs biases; drop it, or build with bias=True")
            bias = torch.full((self.hidden_size,), float(self.forget_bias), device="cpu")
            self._set_bias("f", bias)
        elif init == "orthogonal" and self.keeps.get("f") == 1:
            self._set_bias("f", torch.ones(self.hidden_size, device="cpu"))

    def _set_bias(self, gate: str, value: Tensor) -> None:
        """Set the whole bias of one gate: the second bias, where there is one, becomes zero."""
        position = self.gates.index(gate)
        if getattr(self, "bias_ih", None) is not None:
            assert self.bias_ih is not None
            self.bias_ih.view(-1, self.hidden_size)[position].copy_(value)
        if getattr(self, "bias_hh", None) is not None:
            assert self.bias_hh is not None
            self.bias_hh.view(-1, self.hidden_size)[position].zero_()
