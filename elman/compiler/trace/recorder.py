"""Writes down, as nodes, the operations that torch runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from elman.cells.cell import as_tuple
from elman.compiler.ir.build import Build, RefusedError
from elman.compiler.ir.nodes import DType, Node, const
from elman.compiler.ir.weights import aten, call, mapped, transposed
from elman.compiler.trace.activations import ELEMENTWISE, LOGICAL
from elman.compiler.trace.functions import Functions
from elman.compiler.trace.operations import MOVES, STRUCTURE
from elman.compiler.trace.source import Source
from elman.errors import ElmanError

#: Operations that make a tensor of one number.
FILLS = frozenset(
    (
        *(aten.zeros, aten.ones, aten.full, aten.zeros_like, aten.ones_like, aten.full_like),
        *(aten.new_zeros, aten.new_ones, aten.new_full, aten.scalar_tensor, aten.lift_fresh),
    )
)


#: What torch makes of `reshape` where it need not copy.
VIEWS = frozenset((aten.view.default, aten._unsafe_view.default, aten._reshape_alias.default))


class Value(NamedTuple):
    """What is known of a tensor: its node, and whether it has the axis of rows.

    fill: the number that it is everywhere, where the step itself has made it of one.
    """

    node: Node
    rows: bool
    tensor: Tensor
    fill: float | None = None


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
        #: Where the step first compares the number of rows with another.
        self.branch = ""
        self.functions = Functions(rows, self._branches)

    def _branches(self) -> None:
        self.branch = self.branch or self.source.line()

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
            if isinstance(error, RefusedError):
                what, why = self.functions.running or "it", f"cannot be compiled: {error}"
                raise self.source.unsupported(what, why, error) from None
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
            if part.dtype != self.dtype:
                raise self.source.unsupported(f"the new '{name}'", f"is a tensor of {part.dtype}")
            nodes.append(value.node)
        return tuple(nodes)

    def names(self, leaves: set[Node]) -> dict[Node, str]:
        named = {}
        for identity, name in self.source.names.items():
            value = self.values.get(identity)
            if value is not None and value.node not in leaves and value.node.op != "const":
                named[value.node] = name
        return named

    # -------------------------------------------------------------- recording

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.functions.recording = True
        self.source.observe()
        try:
            self._record(func, args, kwargs, result)
        except RefusedError as error:
            name = self.functions.running or f"torch.{func.overloadpacket.__name__}"
            raise self.source.unsupported(name, f"cannot be compiled: {error}") from None
        finally:
            self.functions.recording = False
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
        """A tensor of one number, which keeps its own dtype until it meets others."""
        numbers = result.flatten()
        if result.dtype == torch.bool or result.is_complex():
            raise RefusedError(f"it makes a tensor of {result.dtype}")
        if numbers.numel() == 0 or not bool((numbers == numbers[0]).all() | numbers.isnan().all()):
            raise RefusedError("make the tensor a buffer of the cell, with register_buffer")
        number = float(numbers[0].item())
        if number != numbers[0].item() and number == number:
            raise RefusedError(f"it makes a tensor of {numbers[0].item()}, which no float is")
        rows = result.dim() in (1, 2) and result.shape[0] == self.rows
        self.values[id(result)] = Value(const(number), rows, result, number)

    # -------------------------------------------------------------- weights

    def _weight_operation(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        if func in VIEWS:  # of the weight that is traced with, which need not lie as the next does
            func = aten.reshape.default
        results = [result] if isinstance(result, Tensor) else result
        if not isinstance(results, list | tuple):
            raise RefusedError("it takes a number out of torch")
        given = [self._known(t) for t in _tensors((args, tuple(kwargs.values())))]
        like = next((value.node for value in given if value.fill is None), None)
        if like is None and isinstance(result, Tensor):  # a number again
            return self._fill(result)
        if like is None:
            raise RefusedError("make the tensor a buffer of the cell, with register_buffer")
        if func is aten.expand.default and result.dim() == 2 and len(result) == self.rows:
            return self._spread(args[0], result)

        def node_of(leaf: Any) -> Any:
            return self._weight(leaf, like) if isinstance(leaf, Tensor) else leaf

        args = mapped(node_of, args)
        named = tuple((k, mapped(node_of, v)) for k, v in kwargs.items() if k != "device")
        for index, tensor in enumerate(results):
            if isinstance(tensor, Tensor):
                place = None if isinstance(result, Tensor) else index
                line = self.source.line()
                node = _transposition(func, args, tensor) or call(
                    func, args, tensor.shape, kwargs=named, index=place, line=line
                )
                self.enter(node, tensor)
        if not torch.is_grad_enabled():
            self._stop(results)

    def _weight(self, tensor: Tensor, like: Node) -> Node:
        """A weight as an argument of torch's; ``like``: one that tells where to make others."""
        value = self._known(tensor)
        if value.fill is None:
            return value.node
        shape, number = tuple(tensor.shape), tensor.flatten()[0].item()
        options = (("dtype", tensor.dtype),)
        return call(aten.new_full.default, [like, shape, number], shape, kwargs=options)

    def _spread(self, tensor: Tensor, result: Tensor) -> None:
        """A weight repeated for every row is the weight."""
        b = self._build()
        node = b.broadcast(self._number(b, tensor), result.shape[1])
        truth = tensor.dtype == torch.bool
        self.values[id(result)] = Value(b("ne", node, 0.0) if truth else node, True, result)

    # -------------------------------------------------------------- rows

    def _build(self, rank: int = 2) -> Build:
        return Build(self.source.line(), rank, self.dtype)

    def _row_operation(
        self, packet: Any, values: list[Value], args: Any, kwargs: Any, result: Any
    ) -> None:
        rule = next((table[packet] for table in TABLES if packet in table), None)
        if rule is None:
            raise RefusedError("there is no rule for it")
        self._check_compared(packet, args, result)
        b = self._build(max(v.tensor.dim() for v in values if v.rows))

        def number(leaf: Any) -> Any:
            return self._number(b, leaf) if isinstance(leaf, Tensor) else leaf

        def truth(leaf: Any) -> Any:
            return self._truth(b, leaf) if isinstance(leaf, Tensor) else leaf

        truths = TRUTHS.get(packet, ())
        nodes = [mapped(truth if k in truths else number, arg) for k, arg in enumerate(args)]
        given = {name: mapped(number, value) for name, value in kwargs.items()}
        made = rule(b, *nodes, **given)
        results = [result] if isinstance(result, Tensor) else list(result)
        found = list(made) if isinstance(made, tuple) else [made]
        for node, tensor in zip(found, results, strict=True):
            if node is not None:
                self._row_result(b, node, tensor)
        if not torch.is_grad_enabled():
            self._stop(results)

    def _check_compared(self, packet: Any, args: Any, result: Any) -> None:
        """Numbers are compared in the dtype that torch takes them to: it must be that of the
        step."""
        found = isinstance(result, Tensor) and result.dtype == torch.bool
        if not found or packet in LOGICAL or len(args) != 2:
            return
        common = torch.result_type(*args)
        if common not in (self.dtype, torch.bool):
            raise RefusedError(f"it compares in {common}")

    def _number(self, b: Build, tensor: Tensor) -> Node:
        """A tensor as numbers of the step's dtype, to which torch takes it beside others."""
        value = self._known(tensor)
        if value.fill is not None:
            return self._filled(b, value)
        if value.rows:
            return b("where", value.node, 1.0, 0.0) if tensor.dtype == torch.bool else value.node
        if tensor.dtype == self.dtype:
            return value.node
        options = (("dtype", self.dtype),)
        shape = value.node.shape
        return call(aten._to_copy.default, [value.node], shape, kwargs=options, line=b.line)

    def _filled(self, b: Build, value: Value) -> Node:
        shape, number = value.tensor.shape, b.row(value.fill or 0.0)
        if len(shape) < 2 or value.rows or (len(shape) == 2 and shape[0] == 1):
            return b.broadcast(number, shape[-1] if shape and not value.rows else _width(shape))
        return call(aten.expand.default, [number, tuple(shape)], shape, line=b.line)

    def _truth(self, b: Build, tensor: Tensor) -> Node:
        """A tensor as truth values: whether it is not 0."""
        value = self._known(tensor)
        if value.fill is not None:
            raise RefusedError("it asks whether a number is true")
        if tensor.dtype == torch.bool and value.rows:
            return value.node
        if tensor.dtype == torch.bool or value.rows:
            return b("ne", self._number(b, tensor), 0.0)
        shape, line = value.node.shape, b.line
        nonzero = call(aten.ne.Scalar, [value.node, 0], shape, line=line)
        options = (("dtype", self.dtype),)
        number = call(aten._to_copy.default, [nonzero], shape, kwargs=options, line=line)
        return b("ne", number, 0.0)

    def _row_result(self, b: Build, node: Node, tensor: Tensor) -> None:
        if tensor.dtype not in (self.dtype, torch.bool):
            raise RefusedError(f"it makes a tensor of {tensor.dtype} out of {self.dtype}")
        shape = tuple(tensor.shape)
        if shape != (self.rows, node.size) and not (shape == (self.rows,) and node.size == 1):
            made = ", ".join("rows" if size == self.rows else str(size) for size in shape)
            raise RefusedError(f"it makes a tensor [{made}], and a step computes with vectors")
        if tensor.dtype == torch.bool and node.dtype is not DType.BOOL:
            node = b("ne", node, 0.0)
        self.values[id(tensor)] = Value(node, True, tensor)

    def _stop(self, results: Sequence[Any]) -> None:
        """Under no_grad a value is a constant."""
        for tensor in results:
            value = self.values.get(id(tensor))
            if value is not None and value.fill is None and tensor.is_floating_point():
                b = self._build()
                stopped = (
                    b.stop(value.node)
                    if value.rows
                    else call(aten.detach.default, [value.node], value.node.shape, line=b.line)
                )
                self.values[id(tensor)] = value._replace(node=stopped)


def _width(shape: Sequence[int]) -> int:
    """Of a row value with the axis of rows: without its last axis it is a number for each."""
    return shape[1] if len(shape) == 2 else 1


#: Where the rule of an operation on rows stands.
TABLES: tuple[dict[Any, Callable[..., Any]], ...] = (MOVES, LOGICAL, ELEMENTWISE, STRUCTURE)


#: Which arguments an operation takes as truth values; the others are numbers.
TRUTHS: dict[Any, tuple[int, ...]] = {
    **dict.fromkeys(LOGICAL, (0, 1)),
    aten.where: (0,),
    aten.masked_fill: (1,),
}


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
