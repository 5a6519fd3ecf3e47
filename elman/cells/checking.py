"""What a step must be, found before it runs over time, and where it went wrong."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from traceback import walk_stack, walk_tb
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from elman.cells.cell import Cell, State, bind, like_of, weights_of
from elman.cells.hooks import is_hooked, without_hooks
from elman.cells.reads.snapshot import Snapshot
from elman.errors import PurityError

#: The operations by which a tensor's value becomes a Python value, as in `if x > 0`.
LEAVES_TORCH = (torch.ops.aten._local_scalar_dense, torch.ops.aten.is_nonzero)


#: Methods that do so without an operation.
READS_NUMBERS = ("tolist", "numpy", "__array__", "__dlpack__")


def require_pure(cell: Cell) -> None:
    """Run the step once on an example and raise PurityError for what a step must not do.

    It must not write in place, draw at random, look at the value of a tensor, or keep anything
    from one run to the next: it would not be the same function at every time step, and a compiled
    plan could not run it. Hooks do not run.
    """
    weights = weights_of(cell)
    like = like_of((*cell.parameters(), *weights.values()))
    if is_hooked(cell):  # a weight that a hook computes has the dtype of when it last ran
        weights = {n: w.to(like) if w.is_floating_point() else w for n, w in weights.items()}
    x = like.new_zeros(1, cell.input_size)
    state = cell.initial_state((1,), x)
    bound = bind(cell, weights)
    without_hooks(bound)  # they may be what they like: the literal loop runs them

    def run() -> None:
        try:
            with torch.no_grad(), _Watch(cell) as watch, _Calls(watch):
                bound.step(x, *state)
        except RuntimeError as error:
            note_shapes(error, cell, "for one example", x, state)
            raise

    before = _Memory(cell, bound)
    run()
    if before.holds(bound):
        return
    after = _Memory(cell, bound)
    tensor = after.tensor_since(before)
    if tensor:
        raise keeps(cell, tensor, "a tensor")
    if after.changed_since(before):  # a table that is filled once is the same ever after
        run()
        changed = _Memory(cell, bound).changed_since(after)
        if changed:
            raise keeps(cell, changed)


class _Memory:
    """What a step could have kept by now: in the attributes of its modules, and in all that it can
    read beside them."""

    def __init__(self, cell: Cell, bound: Cell) -> None:
        self.reads = Snapshot(cell)
        self.attributes = attributes(bound)

    def holds(self, bound: Cell) -> bool:
        """Whether nothing has been set since."""
        return self.reads.holds() and not set_since(self.attributes, attributes(bound))

    def tensor_since(self, before: _Memory) -> str:
        """The name of a tensor that was not there before; "" where there is none."""
        for name in set_since(before.attributes, self.attributes):
            if any(isinstance(leaf, Tensor) for leaf in tree_leaves(self.attributes[name])):
                return name
        return self.reads.probes.tensor_since(before.reads.probes)

    def changed_since(self, before: _Memory) -> str:
        """The name of what is not as it was before; "" where all is."""
        for name in set_since(before.attributes, self.attributes):
            return name
        if self.reads.key == before.reads.key:
            return ""
        return before.reads.probes.changed() or "what it reads"


def attributes(bound: Cell) -> dict[str, Any]:
    """The attributes of a copy of a cell, as `bind` makes it, and of its modules, by name."""
    return {
        f"self.{path}.{name}" if path else f"self.{name}": value
        for path, module in bound.named_modules()
        for space in (vars(module), module._parameters, module._buffers)
        for name, value in space.items()
        if not isinstance(getattr(type(module), name, None), cached_property)
    }


def set_since(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The attributes that are other objects now, and not equal numbers or texts."""
    return [n for n, v in now.items() if n not in before or not _same(v, before[n])]


def _same(one: Any, other: Any) -> bool:
    plain = type(one) is type(other) and type(one) in (bool, int, float, complex, str, bytes)
    return one is other or (plain and one == other)


def keeps(cell: Cell, name: str, what: str = "something else each time it runs") -> PurityError:
    """The error for a step that keeps something from one run to the next."""
    return PurityError(
        f"{_store_line(cell, name)} sets {name} to {what}, but a step is a pure function, and a "
        "layer keeps nothing that it sets: make it a part of the state, or compute it in the step "
        "each time (what does not depend on the state is taken out of the loop), or, where it is "
        "constant, in __init__ with register_buffer"
    )


def _store_line(cell: Cell, name: str) -> str:
    """Where the step sets the attribute of this name, if it does so itself."""
    code = inspect.unwrap(type(cell).step).__code__
    attribute = name.rpartition(".")[2]
    for one in dis.get_instructions(code):
        if one.opname == "STORE_ATTR" and one.argval == attribute and one.positions:
            return f"{Path(code.co_filename).name}:{one.positions.lineno} step:"
    return step_line(cell)


def reads_past(copy: Cell, weights: Iterable[Tensor]) -> bool:
    """Whether the step of a cell's copy reads these weights, which are not the copy's."""
    like = like_of(weights_of(copy).values())
    x = like.new_zeros(1, copy.input_size)
    state = copy.initial_state((1,), x)
    with torch.no_grad(), _Reads(weights) as reads:
        copy.step(x, *state)
    return reads.met


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Knows whether an operation has read some of these tensors."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places = {t.untyped_storage()._cdata for t in tensors}
        self.met = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
        self.met |= any(t.untyped_storage()._cdata in self.places for t in given)
        return func(*args, **(kwargs or {}))


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first step imports all of torch.compile, which takes seconds

    def __init__(self, cell: Cell) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cell = cell
        #: Memory that the function of torch that runs now has made for itself.
        self.own: list[UntypedStorage] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket in LEAVES_TORCH:
            self.refuse(
                "branches on the value of a tensor, or takes it out of torch",
                "use torch.where, torch.maximum or torch.clamp",
            )
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.refuse(
                f"draws random numbers ({func.overloadpacket.__name__})",
                "use the regularisers of the layer: input_dropout, state_dropout, zoneout, "
                "weight_drop",
            )
        if any(self._is_given(value) for value in _written(func, args, kwargs or {})):
            self.refuse(
                f"writes in place ({func.overloadpacket.__name__})",
                "make a new tensor: h = h + x, not h += x or h.add_(x); a module that counts what "
                "it sees, as BatchNorm does, has no place in a step (LayerNorm has)",
            )
        result = func(*args, **(kwargs or {}))
        if all(returned.alias_info is None for returned in func._schema.returns):
            self.own += [t.untyped_storage() for t in tree_leaves(result) if isinstance(t, Tensor)]
        return result

    def _is_given(self, value: Tensor) -> bool:
        return all(value.untyped_storage()._cdata != own._cdata for own in self.own)

    def refuse(self, what: str, cure: str) -> None:
        raise PurityError(f"{step_line(self.cell)} {what}, but a step is a pure function: {cure}")


class _Calls(TorchFunctionMode):
    """Tells where a function of torch begins that the step itself calls.

    Some, as rms_norm, write in place to what they have made; nobody else sees it.
    """

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch
        self.running = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if self.running:
            return func(*args, **(kwargs or {}))
        if (resolve_name(func) or "").rpartition(".")[2] in READS_NUMBERS:
            self.watch.refuse("takes numbers out of torch", "keep to functions of torch")
        self.running, self.watch.own = True, []
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.running, self.watch.own = False, []


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operation writes to."""
    named = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    written = [
        named.get(argument.name)
        for argument in func._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return [value for value in tree_leaves(written) if isinstance(value, Tensor)]


def note_shapes(error: Exception, cell: Cell, when: str, x: Tensor, state: State) -> None:
    """Add to an error of torch's where in the cell it came from, and what the step was given."""
    named = zip(("x", *cell.state_sizes), (x, *state), strict=True)
    shapes = ", ".join(f"{name} is {list(value.shape)}" for name, value in named)
    error.add_note(f"in {step_line(cell, error)} {when}, {shapes}")


def step_line(cell: Cell, error: BaseException | None = None) -> str:
    """Where the step is, as "mgu.py:31 step:", at the line that runs now or that failed."""
    code = inspect.unwrap(type(cell).step).__code__
    running = walk_stack(None) if error is None else walk_tb(error.__traceback__)
    lines = [line for frame, line in running if frame.f_code is code]
    return f"{Path(code.co_filename).name}:{[*lines, code.co_firstlineno][0]} step:"
