"""What code mentions, and whose code it is."""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

#: Instructions that read a name of the module, or of its builtins.
GLOBAL = frozenset(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"))
#: Instructions that read an attribute.
ATTRIBUTE = frozenset(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM"))


@dataclass(frozen=True)
class Mentioned:
    """The names in the code of a function, and of those that are written inside it.

    attributes: of whatever object; texts count too, as in ``getattr(self, "gate")``.
    variables: of the module. imports: modules that it imports when it runs.
    """

    attributes: frozenset[str]
    variables: tuple[str, ...]
    imports: tuple[str, ...]


@lru_cache(maxsize=4096)
def mentioned(code: CodeType) -> Mentioned:
    """What this code mentions."""
    attributes: set[str] = set()
    variables: set[str] = set()
    imports: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in GLOBAL:
            variables.add(instruction.argval)
        elif instruction.opname in ATTRIBUTE:
            attributes.add(instruction.argval)
        elif instruction.opname == "IMPORT_NAME":
            imports.add(instruction.argval)
    for constant in _constants(code.co_consts):
        if isinstance(constant, CodeType):
            inner = mentioned(constant)
            attributes |= inner.attributes
            variables.update(inner.variables)
            imports.update(inner.imports)
        elif isinstance(constant, str):
            attributes.update(part for part in constant.split(".") if part.isidentifier())
    return Mentioned(frozenset(attributes), tuple(sorted(variables)), tuple(sorted(imports)))


def _constants(constants: Any) -> Iterator[Any]:
    for constant in constants:
        if isinstance(constant, tuple | frozenset):
            yield from _constants(constant)
        else:
            yield constant


#: Modules of Python whose functions give the same answer whenever they are asked.
PURE = frozenset(
    (
        *("abc", "bisect", "builtins", "cmath", "collections", "contextlib", "copy", "dataclasses"),
        *("decimal", "enum", "fractions", "functools", "heapq", "itertools", "logging", "math"),
        *("numbers", "operator", "re", "string", "textwrap", "types", "typing", "warnings"),
        *("_abc", "_bisect", "_collections", "_collections_abc", "_functools", "_heapq"),
        *("_operator", "_sre", "_typing", "_warnings", "__future__"),
    )
)
#: Functions of torch that tell of what is around the step and not in it.
AMBIENT = frozenset(
    (
        *("is_grad_enabled", "is_inference_mode_enabled", "is_autocast_enabled", "is_compiling"),
        *("is_autocast_cpu_enabled", "get_autocast_dtype", "get_autocast_gpu_dtype"),
        *("is_inference", "initial_seed", "get_rng_state", "get_num_threads", "is_scripting"),
    )
)


def origin(module: str | None, own: frozenset[str] = frozenset()) -> str:
    """Whose code a module is: "user", "library" (taken not to change), or "world": what Python's
    own modules know of files, clocks, processes.

    own: packages that count as the user's, installed or not.
    """
    name = module or "__main__"
    root = name.partition(".")[0]
    if root == "elman":
        return "user" if name.startswith("elman.cells") else "library"
    return "user" if root in own else _origin(root)


@lru_cache(maxsize=1024)
def _origin(root: str) -> str:
    if root in ("torch", "numpy") or root in PURE:
        return "library"
    if root == "__main__":
        return "user"
    if root in sys.stdlib_module_names:
        return "world"
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return "library" if "site-packages" in file or "dist-packages" in file else "user"
