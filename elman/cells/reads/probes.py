"""What is compared at every call."""

from __future__ import annotations

from operator import is_
from typing import Any

from torch import Tensor

MISSING = object()

#: The shape, the dtype and the bytes of an array.
ArrayContent = tuple[tuple[int, ...], str, bytes]


def array_content(array: Any) -> ArrayContent:
    """All of an array of NumPy."""
    return array.shape, str(array.dtype), array.tobytes()


class Probes:
    """What is looked at at every call, as plain loops over flat lists.

    items: (mapping, key, value)    attributes: (object, name, value)
    ends: (mapping, length, last key): a key that is new is the last one
    sequences: (mapping, keys), where their order counts
    orders: (container, its content)    empty: containers    absent: (mapping, key)
    tensors: (mapping, key)    arrays: (array, content)
    where: what a reader calls it, of (mapping, key), or of (container, None), by their ids
    """

    def __init__(self) -> None:
        self.items: list[tuple[Any, Any, Any]] = []
        self.attributes: list[tuple[Any, str, Any]] = []
        self.ends: list[tuple[Any, int, Any]] = []
        self.sequences: list[tuple[Any, tuple[Any, ...]]] = []
        self.orders: list[tuple[Any, tuple[Any, ...]]] = []
        self.empty: list[Any] = []
        self.absent: list[tuple[Any, Any]] = []
        self.tensors: list[tuple[Any, str]] = []
        self.arrays: list[tuple[Any, ArrayContent]] = []
        self.where: dict[tuple[int, Any], str] = {}

    def hold(self) -> bool:
        try:
            for mapping, key, value in self.items:
                if mapping[key] is not value:
                    return False
            for owner, name, value in self.attributes:
                if getattr(owner, name, MISSING) is not value:
                    return False
            for mapping, keys in self.sequences:
                if len(mapping) != len(keys) or not all(map(is_, mapping, keys)):
                    return False
            for mapping, length, last in self.ends:
                if len(mapping) != length or next(reversed(mapping)) is not last:
                    return False
            if any(self.empty):
                return False
            return not (self.absent or self.orders or self.tensors or self.arrays) or self._rest()
        except (KeyError, IndexError, RuntimeError, StopIteration):  # also from another thread
            return False

    def _rest(self) -> bool:
        return (
            not any(key in mapping for mapping, key in self.absent)
            and all(len(c) == len(o) and all(map(is_, c, o)) for c, o in self.orders)
            and all(isinstance(mapping[name], Tensor) for mapping, name in self.tensors)
            and all(array_content(array) == content for array, content in self.arrays)
        )

    def keys(self, mapping: Any, in_order: bool = False) -> None:
        """That no key is new or gone; in_order: nor at another place."""
        if len(mapping) > 1 and in_order:
            self.sequences.append((mapping, tuple(mapping)))
        elif mapping:
            self.ends.append((mapping, len(mapping), next(reversed(mapping))))
        else:
            self.empty.append(mapping)

    def changed(self) -> str:
        """The name of what is no longer as it was; "" where it has none."""
        for mapping, key, value in self.items:
            if mapping.get(key, MISSING) is not value:
                return str(key)
        for owner, name, value in self.attributes:
            if getattr(owner, name, MISSING) is not value:
                return name
        sizes = [(mapping, length) for mapping, length, _ in self.ends]
        sizes += [(mapping, len(keys)) for mapping, keys in self.sequences]
        sizes += [(mapping, 0) for mapping in self.empty]
        sizes += [(container, len(content)) for container, content in self.orders]
        grown = (self.where.get((id(c), None)) for c, size in sizes if len(c) != size)
        return next(filter(None, grown), "")

    def tensor_since(self, before: Probes) -> str:
        """The name of a tensor in a container or an object that was not there before; or ""."""
        known = before._tensors()
        return next((name for key, name in self._tensors().items() if key not in known), "")

    def _tensors(self) -> dict[int, str]:
        """The tensors in containers and objects, which are nobody's weights: their names by id."""
        found = {}
        for mapping, key, value in self.items:
            if isinstance(value, Tensor):
                found[id(value)] = self.where.get((id(mapping), key), str(key))
        for _, name, value in self.attributes:
            if isinstance(value, Tensor):
                found[id(value)] = name
        for container, content in self.orders:
            where = self.where.get((id(container), None), "a container")
            found |= {id(value): where for value in content if isinstance(value, Tensor)}
        return found
