"""A cell: one time step of a recurrent network, written as its equation."""

import inspect
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from elman.cells.plan_cache import PlanCache
from elman.errors import OptionError, require_positive

State = tuple[Tensor, ...]


class Cell(nn.Module):
    """The equation of one time step: ``state' = step(x, *state)``.

        h_1, ..., h_T  where  h_t = step(x_t, h_{t-1})

    Subclass it, declare the size of the input and the name and size of each part of the state,
    and write ``step`` in plain PyTorch for any leading axes. The first part of the state is what
    a layer outputs.

        class Leaky(elman.Cell):
            def __init__(self, input_size, hidden_size):
                super().__init__(input_size, h=hidden_size)
                self.W = nn.Linear(input_size, hidden_size)
                self.U = nn.Linear(hidden_size, hidden_size, bias=False)

            def step(self, x, h):
                return 0.9 * h + 0.1 * torch.tanh(self.W(x) + self.U(self.drop_state(h)))

    ``step`` is a pure function: it writes nothing in place, draws nothing at random and takes no
    branch on the value of a tensor.

    x: [..., input_size]   each part of the state: [..., its size]

    Raises OptionError where the sizes are not positive or the arguments of ``step`` are not
    ``x`` and the declared parts, in order.
    """

    #: Names of the parameters that weight drop thins out; a submodule's as "U.weight".
    recurrent_weights: tuple[str, ...] = ("weight_hh",)
    #: The parts of the state that zoneout may keep by themselves; None: all.
    zoneout_parts: tuple[str, ...] | None = None
    #: The state dropout of the layer that runs this cell, set by `bind` and nowhere else.
    state_mask: Tensor | None = None

    def __init__(self, input_size: int, **state_sizes: int) -> None:
        super().__init__()
        if not state_sizes:
            raise OptionError(
                f"{type(self).__name__}: a cell declares the parts of its state; call "
                "super().__init__(input_size, h=hidden_size), one name=size for each part"
            )
        require_positive(input_size=input_size, **state_sizes)
        self._plan_cache = PlanCache()
        self.input_size = input_size
        self.state_sizes = dict(state_sizes)
        self._check_step_arguments()

    def _check_step_arguments(self) -> None:
        parameters = inspect.signature(self.step).parameters.values()
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return
        expected = ["x", *self.state_sizes]
        if [p.name for p in parameters] != expected:
            raise OptionError(
                f"{type(self).__name__}.step must take ({', '.join(expected)}), the input and the "
                f"declared parts of the state in order; it takes "
                f"({', '.join(p.name for p in parameters)})"
            )

    @property
    def output_size(self) -> int:
        """The size of the first part of the state, which a layer outputs."""
        return next(iter(self.state_sizes.values()))

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """One time step, step(x, *state): the new state, a tensor or a tuple of its parts."""
        raise OptionError(
            f"{type(self).__name__} has no step: define step(self, x, "
            f"{', '.join(self.state_sizes)}) and return the new state"
        )

    def initial_state(self, batch_shape: tuple[int, ...], like: Tensor) -> State:
        """The state before the first step, zeros unless a cell says otherwise.

        batch_shape: the leading axes; like: a tensor with the wanted dtype and device.
        """
        return tuple(like.new_zeros(*batch_shape, size) for size in self.state_sizes.values())

    def drop_state(self, h: Tensor) -> Tensor:
        """``h`` as it enters a recurrent product: with the layer's state dropout, if it has one."""
        return h if self.state_mask is None else h * self.state_mask

    def forward(self, x: Tensor, *state: Tensor) -> Any:
        """``step``, from the initial state where none is given."""
        return self.step(x, *(state or self.initial_state(x.shape[:-1], x)))

    def extra_repr(self) -> str:
        return f"{self.input_size}, " + ", ".join(f"{k}={v}" for k, v in self.state_sizes.items())


def as_tuple(state: Tensor | Sequence[Tensor]) -> State:
    """A state as the tuple of its parts."""
    return (state,) if isinstance(state, Tensor) else tuple(state)


def as_returned(parts: State) -> Any:
    """A state as `step` returns it: the tensor itself where there is but one part."""
    return parts[0] if len(parts) == 1 else parts


def weights_of(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """The tensors that ``step`` computes with, by qualified name: parameters, buffers, and tensors
    that are plain attributes, as hooks and wrappers set them.

    A parametrised tensor (weight norm, spectral norm) appears once, under its own name, with the
    value that it has now.
    """
    found: dict[str, Tensor] = {}
    _gather(module, prefix, found)
    return found


def _gather(module: nn.Module, prefix: str, found: dict[str, Tensor]) -> None:
    children = module._modules
    for name, parameter in module._parameters.items():
        if parameter is not None:
            found[prefix + name] = parameter
    if "parametrizations" in children:
        for name in module.parametrizations:  # type: ignore[union-attr]
            found[prefix + name] = getattr(module, name)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            found[prefix + name] = buffer
    for name in _plain_tensors(module):
        found[prefix + name] = getattr(module, name)
    for name, child in children.items():
        if child is not None and name != "parametrizations":
            _gather(child, f"{prefix}{name}.", found)


def _plain_tensors(module: nn.Module) -> tuple[str, ...]:
    """The names of attributes that are tensors and neither parameters nor buffers."""
    odd = [item for item in module.__dict__.items() if type(item[1]) not in USUAL]
    return tuple([name for name, value in odd if isinstance(value, Tensor)])


#: Types of most attributes of a module: asking `isinstance` of each would take its time.
USUAL = frozenset(
    (bool, int, float, str, type(None), tuple, list, dict, set, OrderedDict, PlanCache, type)
)
# To torch.compile these names are constants.
_plain_tensors._dynamo_marked_constant = True  # type: ignore[attr-defined]


def like_of(weights: Iterable[Tensor]) -> Tensor:
    """A tensor of the dtype and on the device that a step computes in: the first of its weights
    that is neither whole nor a single number, which to torch does not decide either."""
    numbers = [w for w in weights if w.is_floating_point()]
    vectors = [w for w in numbers if w.dim()]
    return [*vectors, *numbers, torch.zeros((), device="cpu")][0]


def dtype_of(weights: Iterable[Tensor]) -> torch.dtype:
    """The dtype that a step computes in."""
    return like_of(weights).dtype


def bind(cell: Cell, weights: dict[str, Tensor], state_mask: Tensor | None = None) -> Cell:
    """The cell with these values in place of its tensors.

    A shallow copy: the cell itself is not touched, so several threads may run it at once.
    """
    copies: dict[int, nn.Module] = {}
    bound = _bind(cell, weights, "", copies)
    assert isinstance(bound, Cell)
    for clone in copies.values():
        _rebind_methods(clone, copies)
    bound.__dict__["state_mask"] = state_mask
    return bound


def _rebind_methods(clone: nn.Module, copies: dict[int, nn.Module]) -> None:
    """Let methods of the cell and its modules that stand among the attributes be the copies'."""
    mapping = clone.__dict__
    methods = [(name, value) for name, value in mapping.items() if type(value) is MethodType]
    for name, method in methods:
        own = copies.get(id(method.__self__))
        if own is not None:
            mapping[name] = MethodType(method.__func__, own)


def _bind(
    module: nn.Module, weights: dict[str, Tensor], prefix: str, copies: dict[int, nn.Module]
) -> nn.Module:
    if isinstance(module, torch.jit.ScriptModule):  # its tensors are its own
        return module
    clone: nn.Module = object.__new__(parametrize.type_before_parametrizations(module))
    mapping = clone.__dict__ = dict(module.__dict__)
    mapping["_parameters"], mapping["_buffers"] = dict(module._parameters), dict(module._buffers)
    for name, value in weights.items():
        own = name[len(prefix) :]
        if name.startswith(prefix) and "." not in own:
            _place(module, own, mapping)[own] = value
    mapping["_modules"] = {
        name: child if child is None else _bind(child, weights, f"{prefix}{name}.", copies)
        for name, child in module._modules.items()
        if name != "parametrizations"
    }
    copies[id(module)] = clone
    return clone


def _place(module: nn.Module, name: str, mapping: dict[str, Any]) -> dict[str, Any]:
    """Where a tensor of this name stands, in the namespace of a copy of the module."""
    if name in module.__dict__:
        return mapping
    found: dict[str, Any] = mapping["_buffers" if name in module._buffers else "_parameters"]
    return found


def state_mask_reaches(cell: Cell) -> bool:
    """Whether ``step`` uses `Cell.drop_state`: zeroing the mask must change the new state."""
    weights = weights_of(cell)
    like = like_of(weights.values())
    full, empty = (
        bind(cell, weights, like.new_full((cell.output_size,), keep)) for keep in (1.0, 0.0)
    )
    return _differ(full, empty, like)


def weight_reaches(cell: Cell, name: str) -> bool:
    """Whether ``step`` reads this weight: another one must change the new state."""
    weights = weights_of(cell)
    others = weights | {name: weights[name].detach() + 1}
    return _differ(bind(cell, weights), bind(cell, others), like_of(weights.values()))


def _differ(one: Cell, other: Cell, like: Tensor) -> bool:
    """Whether two copies of a cell make different states of the same numbers."""
    generator = torch.Generator().manual_seed(0)
    drawn = [
        torch.randn(16, size, generator=generator, device="cpu").to(like)
        for size in (one.input_size, *one.state_sizes.values())
    ]
    with torch.no_grad():
        found = [as_tuple(bound.step(*drawn)) for bound in (one, other)]
    return any(not torch.allclose(a, b, 0, 0, equal_nan=True) for a, b in zip(*found, strict=True))
