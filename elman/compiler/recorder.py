"""Writes down, as nodes, the operations that torch runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from elman.cells.cell import as_tuple
from elman.compiler.activations import ELEMENTWISE, LOGICAL
from elman.compiler.build import Build, RefusedError
from elman.compiler.functions import Functions
from elman.compiler.ir import Node, broadcast, const
from elman.compiler.lower import MOVES, STRUCTURE
from elman.compiler.source import Source
from elman.compiler.weights import aten, call, mapped, transposed
from elman.errors import ElmanError

#: Operations that make a tensor of one number.
FILLS = frozenset(
    (
        *(aten.zeros, aten.ones, aten.full, aten.zeros_like, aten.ones_like, aten.full_like),
        *(aten.new_zeros, aten.new_ones, aten.new_full, aten.scalar_tensor, aten.lift_fresh),
    )
)


class Value(NamedTuple):
    """What is known of a tensor: its node, and whether it has the axis of rows."""

    node: Node
    rows: bool
    tensor: Tensor


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down the operations that torch runs."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first trace imports all of torch.compile, which takes seconds

    def __init__(self, source: Source, rows: int, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.source = source
        self.rows = rows
        self.dtype = dtype
        self.values: dict[int, Value] = {}
        self.functions = Functions()

    def enter(self, node: Node, tensor: Tensor) -> Tensor:
        self.values[id(tensor)] = Value(node, node.is_row, tensor)
        return tensor

    def run(self, step: Callable[[], Any]) -> Any:
        autocast = torch.autocast("cpu", enabled=False)
        try:
            with torch.enable_grad(), autocast, self.source, self, self.functions:
                return step()
        except ElmanError:
            raise
        except Exception as error:
            raise self.source.unsupported(
                "one example", f"cannot be computed ({error})", error
            ) from error

    def outputs(self, new: Any, sizes: Sequence[tuple[str, int]]) -> tuple[Node, ...]:
        parts = as_tuple(new) if isinstance(new, Tensor | tuple | list) else ()
        if len(parts) != len(sizes):
            raise self.source.unsupported("what it returns", f"is not {len(sizes)} tensors")
        nodes = []
        for part, (name, size) in zip(parts, sizes, strict=True):
            value = self.values.get(id(part))
            if value is None or tuple(part.shape) != (self.rows, size):
                raise self.source.unsupported(
                    f"the new '{name}'", "is no result of the step of the declared size"
                )
            nodes.append(value.node)
        return tuple(nodes)

    def names(self, leaves: set[Node]) -> dict[Node, str]:
        named = {}
        for name, tensor in self.source.named:
            value = self.values.get(id(tensor))
            if value is not None and value.node not in leaves and value.node.op != "const":
                named[value.node] = name
        return named

    # -------------------------------------------------------------- recording

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        try:
            self._record(func, args, kwargs, result)
        except RefusedError as error:
            name = self.functions.running or f"torch.{func.overloadpacket.__name__}"
            raise self.source.unsupported(name, f"cannot be compiled: {error}") from None
        return result

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
        packet = func.overloadpacket
        if func._schema.is_mutable:
            raise RefusedError("it writes in place")
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise RefusedError("it draws at random")
        if packet in FILLS:
            return self._fill(result)
        if self.source.custom_gradient():
            raise RefusedError("it is in an autograd.Function with a gradient of its own")
        values = [self._known(t) for t in _tensors((args, tuple(kwargs.values())))]
        if any(value.rows for value in values):
            self._row_operation(packet, values, args, kwargs, result)
        elif values:
            self._weight_operation(func, args, kwargs, result)
        else:
            raise RefusedError("make the tensor a buffer of the cell, with register_buffer")

    def _known(self, tensor: Tensor) -> Value:
        value = self.values.get(id(tensor))
        if value is None:
            raise RefusedError(
                f"a tensor {list(tensor.shape)} is neither an argument nor a weight of the step; "
                "make it a buffer of the cell, with register_buffer"
            )
        return value

    def _fill(self, result: Tensor) -> None:
        numbers = result.flatten()
        if result.dtype != self.dtype and (result.numel() != 1 or result.dtype == torch.bool):
            raise RefusedError(f"it makes a tensor of {result.dtype}")
        if numbers.numel() == 0 or not bool((numbers == numbers[0]).all() | numbers.isnan().all()):
            raise RefusedError("make the tensor a buffer of the cell, with register_buffer")
        node = const(numbers[0].item())
        rows = result.dim() in (1, 2) and result.shape[0] == self.rows
        if result.dim() == 2 and rows:
            node = broadcast(node, result.shape[1], self.source.line())
        elif result.dim() and not rows and result.shape != (1,):
            node = call(aten.expand.default, [node, tuple(result.shape)], result.shape)
        self.values[id(result)] = Value(node, rows, result)

    # -------------------------------------------------------------- weights

    def _weight_operation(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        results = [result] if isinstance(result, Tensor) else result
        if not isinstance(results, list | tuple):
            raise RefusedError("it takes a number out of torch")
        single = isinstance(result, Tensor)
        args = mapped(self._weight, args)
        named = tuple((k, self._weight(v)) for k, v in kwargs.items() if k != "device")
        for index, tensor in enumerate(results):
            if not isinstance(tensor, Tensor):
                continue
            spread = tensor.dim() == 2 and tensor.shape[0] == self.rows
            if func is aten.expand.default and spread:
                self._spread(args[0], tensor)
                continue
            node = _transposition(func, args, tensor)
            self.enter(
                node
                or call(
                    func,
                    args,
                    tensor.shape,
                    kwargs=named,
                    index=None if single else index,
                    line=self.source.line(),
                ),
                tensor,
            )
        if not torch.is_grad_enabled():
            self._stop(results)

    def _weight(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        node = self._known(leaf).node
        if node.op == "const" and leaf.dtype != self.dtype:
            raise RefusedError(f"it takes a tensor of {leaf.dtype}")
        if node.op == "const" and leaf.dim() == 0:
            return call(aten.reshape.default, [node, ()], ())
        return node

    def _spread(self, node: Node, tensor: Tensor) -> None:
        """A weight repeated for every row is the weight."""
        b = Build(self.source.line())
        row = b.broadcast(b.row(node), tensor.shape[1])
        self.values[id(tensor)] = Value(row, True, tensor)

    # -------------------------------------------------------------- rows

    def _row_operation(
        self, packet: Any, values: list[Value], args: Any, kwargs: Any, result: Any
    ) -> None:
        rule = next((table[packet] for table in TABLES if packet in table), None)
        if rule is None:
            raise RefusedError("there is no rule for it")
        b = Build(self.source.line(), max(v.tensor.dim() for v in values if v.rows))
        as_type = _operand_type(packet, result)

        def node_of(leaf: Any) -> Any:
            return self._operand(b, leaf, as_type) if isinstance(leaf, Tensor) else leaf

        given = {name: mapped(node_of, value) for name, value in kwargs.items()}
        made = rule(b, *mapped(node_of, args), **given)
        results = [result] if isinstance(result, Tensor) else list(result)
        nodes = list(made) if isinstance(made, tuple) else [made]
        for node, tensor in zip(nodes, results, strict=True):
            if node is not None:
                self._row_result(node, tensor)
        if not torch.is_grad_enabled():
            self._stop(results)

    def _operand(self, b: Build, tensor: Tensor, as_type: type | None) -> Node:
        node = self._known(tensor).node
        if tensor.dtype == torch.bool:
            return b("where", node, 1.0, 0.0) if as_type is float else node
        if not tensor.is_floating_point() and node.op != "const":
            raise RefusedError(f"it takes a tensor of {tensor.dtype}")
        return b("ne", node, 0.0) if as_type is bool else node

    def _row_result(self, node: Node, tensor: Tensor) -> None:
        if tensor.dtype not in (self.dtype, torch.bool):
            raise RefusedError(f"it makes a tensor of {tensor.dtype} out of {self.dtype}")
        shape = tuple(tensor.shape)
        if shape != (self.rows, node.size) and not (shape == (self.rows,) and node.size == 1):
            made = ", ".join("rows" if size == self.rows else str(size) for size in shape)
            raise RefusedError(f"it makes a tensor [{made}], and a step computes with vectors")
        self.values[id(tensor)] = Value(node, True, tensor)

    def _stop(self, results: Sequence[Any]) -> None:
        """Under no_grad a value is a constant."""
        for tensor in results:
            value = self.values.get(id(tensor))
            if value is not None:
                b = Build(self.source.line())
                stopped = (
                    b.stop(value.node)
                    if value.rows
                    else call(aten.detach.default, [value.node], value.node.shape, line=b.line)
                )
                self.values[id(tensor)] = value._replace(node=stopped)


#: Where the rule of an operation on rows stands.
TABLES: tuple[dict[Any, Callable[..., Any]], ...] = (MOVES, LOGICAL, ELEMENTWISE, STRUCTURE)


def _operand_type(packet: Any, result: Any) -> type | None:
    """What an operation computes with: numbers, truth values, or None: whichever it is given."""
    if packet is aten._to_copy:
        return bool if result.dtype == torch.bool else float
    if packet in MOVES or packet in (aten.where, aten.masked_fill):
        return None
    return bool if packet in LOGICAL else float


def _tensors(nest: Any) -> Iterator[Tensor]:
    if isinstance(nest, Tensor):
        yield nest
    elif isinstance(nest, list | tuple):
        for part in nest:
            yield from _tensors(part)


def _transposition(func: Any, args: Sequence[Any], tensor: Tensor) -> Node | None:
    """A transposition of a matrix, in whatever words."""
    if tensor.dim() != 2 or not isinstance(args[0], Node):
        return None
    words = (func.overloadpacket, *args[1:])
    if words[0] is aten.t or words in (
        *((aten.transpose, 0, 1), (aten.transpose, 1, 0), (aten.transpose, -1, -2)),
        *((aten.transpose, -2, -1), (aten.permute, (1, 0))),
    ):
        return transposed(args[0])
    return None
