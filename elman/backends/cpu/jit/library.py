"""From the text of a module to the addresses of its functions."""

from __future__ import annotations

import hashlib
import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import llvmlite.binding as llvm
from llvmlite.binding import ffi

from elman.backends.cpu.jit import cache
from elman.backends.cpu.jit.once import Once, making
from elman.backends.cpu.jit.target import Target, host
from elman.backends.locks import Rank, held_at_fork
from elman.errors import ElmanError
from elman.settings import ASSEMBLY, SOURCE, debug, tell, timed

#: How LLVM optimises, and what it makes. Kernels are emitted as they should be: more passes than
#: those of level 1 make none of them faster, and take half as long again. The small model reads
#: constants relative to the instruction, which the large one of llvmlite's default cannot; the
#: linker below keeps code and constants together for it.
PASSES = {"speed_level": 1}
MACHINE = {"opt": 3, "reloc": "pic", "codemodel": "small", "jit": True}

#: Code that somebody holds, and the last that was made, which may be wanted again.
_libraries: WeakValueDictionary[str, Library] = WeakValueDictionary()
_latest: deque[Library] = deque(maxlen=32)
_names = count()
#: The functions of a module that can be called from outside.
_FUNCTIONS = re.compile(r"^define (?!internal |private )[^@\n]*@([\w.]+)\(", re.MULTILINE)

F = TypeVar("F")


#: llvmlite takes it around each call of LLVM, also where a library goes.
_lock = getattr(getattr(ffi.lib, "_lock", None), "_lock", None)
if _lock is not None:
    held_at_fork(Rank.LLVM, _lock)


class Library:
    """Machine code in this process. It is freed with the last reference to the library."""

    def __init__(self, key: str, code: bytes, functions: Sequence[str]) -> None:
        self.key, self._functions = key, functions
        builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        for name in functions:
            builder.export_symbol(name)
        # The code goes with any tracker of it: here is the only one.
        self._tracker = builder.link(_engine(), f"{key}.{next(_names)}")

    def address(self, name: str) -> int:
        """The address of a function, valid while the library is held; ElmanError where the module
        has none."""
        if name not in self._functions:
            raise ElmanError(f"{self.key}: no address of '{name}', only of {self._functions}")
        address: int = self._tracker[name]
        return address

    def function(self, name: str, prototype: Callable[[int], F]) -> F:
        """A function for ctypes, which holds the library."""
        function = prototype(self.address(name))
        function.library = self  # type: ignore[attr-defined]
        return function


def load(text: str, key: str) -> Library:
    """Compile a module for this machine, or take it from memory or disk where it was before.

    text: LLVM IR that calls nothing but LLVM's intrinsics; what it needs of this process comes
    as addresses in the arguments of its functions. key: a name for people, used in errors and
    for the files of ELMAN_DUMP. Any thread may call; while its library is held, the same text is
    compiled once. Raises ElmanError where LLVM does not accept the text.
    """
    made_from = _made_from(key, host())
    digest = hashlib.sha256("\n".join([*made_from.values(), text]).encode()).hexdigest()
    library = _libraries.get(digest)
    if library is None:
        with making:
            library = _libraries.get(digest)
            if library is None:
                code = _object(text, key, digest, made_from)
                library = Library(key, code, _FUNCTIONS.findall(text))
                _libraries[digest] = library
                _latest.append(library)
    return library


def _made_from(key: str, target: Target) -> dict[str, str]:
    return {
        "key": key,
        "target": f"{target.triple} {target.cpu} {target.features}",
        "options": f"{PASSES} {MACHINE}",
        "versions": _versions(),
    }


@Once
def _versions() -> str:
    llvm_version = ".".join(map(str, llvm.llvm_version_info))
    try:
        own = version("elman")
    except PackageNotFoundError:
        own = "as it lies here"  # on the path, not installed; the text that is compiled tells
    return f"elman {own}, llvmlite {version('llvmlite')}, LLVM {llvm_version}"


def _object(text: str, key: str, digest: str, made_from: dict[str, str]) -> bytes:
    # Whoever asks to see the code gets it compiled, though it may lie on disk.
    tell(SOURCE, f"the loop '{key}' as emitted", lambda: text)
    wanted = os.environ.get("ELMAN_DUMP") or debug() >= ASSEMBLY
    code = None if wanted else cache.read(digest, made_from)
    if code is None:
        with timed(f"the loop '{key}', compile"):
            code = compile_object(text, key, host())
        cache.write(digest, made_from, code)
    return code


def compile_object(text: str, key: str, target: Target) -> bytes:
    """Object code of a module for a target, optimised."""
    with making:
        machine = _machine(target)
        try:  # in a context of its own: what the module is made of goes with it
            module = llvm.parse_assembly(text, llvm.create_context())
            module.verify()
        except RuntimeError as error:
            raise ElmanError(f"{key}: LLVM does not accept the code: {error}") from error
        _refuse_externals(module, key)
        module.triple = target.triple
        module.data_layout = str(machine.target_data)
        options = llvm.create_pipeline_tuning_options(**PASSES)
        passes = llvm.create_pass_builder(machine, options)
        passes.getModulePassManager().run(module, passes)
        tell(ASSEMBLY, f"the loop '{key}' in assembly", lambda: machine.emit_assembly(module))
        _dump(text, module, machine, key)
        return machine.emit_object(module)


def _refuse_externals(module: llvm.ModuleRef, key: str) -> None:
    for function in module.functions:
        if function.is_declaration and not function.name.startswith("llvm."):
            raise ElmanError(
                f"{key}: calls '{function.name}', which is not in the module: pass its address as "
                "an argument"
            )


def _dump(text: str, module: llvm.ModuleRef, machine: llvm.TargetMachine, key: str) -> None:
    """Write the module before and after optimisation, and its assembly, where ELMAN_DUMP says."""
    if not (chosen := os.environ.get("ELMAN_DUMP")):
        return
    folder = Path(chosen)
    short = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', key)}-{short}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.ll").write_text(text, encoding="utf-8")
    (folder / f"{name}.opt.ll").write_text(str(module), encoding="utf-8")
    (folder / f"{name}.s").write_text(machine.emit_assembly(module), encoding="utf-8")


@Once
def _machine(target: Target) -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        target.cpu, target.features, **MACHINE
    )


@Once
def _engine() -> llvm.LLJIT:
    # Unlike MCJIT it raises on a missing symbol where that would abort the process, and it loads
    # an object in a fifth of the time.
    return llvm.create_lljit_compiler(_machine(host()), use_jit_link=True, suppress_errors=True)
