"""The processor that code is generated for: its vector sets, registers and caches."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import llvmlite.binding as llvm

from elman.errors import OptionError, unknown

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_BASELINE = frozenset({"64bit", "cmov", "cx8", "fxsr", "mmx", "sse", "sse2"})
# The names that LLVM tunes for where ELMAN_ISA hides what the processor really is.
_NARROWED = {"avx2": "x86-64-v3", "plain": "x86-64"}


@dataclass(frozen=True)
class Target:
    """What a code generator may rely on.

    triple, cpu, features: as LLVM takes them; the CPU only steers LLVM's tuning, its name may
    be wrong. flags: the features that are there, as in {"avx512f", "fma"}. registers: how many
    vector registers. l1d, l2: bytes of data cache that one core has.
    """

    triple: str
    cpu: str
    features: str
    flags: frozenset[str]
    l1d: int
    l2: int

    def lanes(self, element: str) -> int:
        """How many values of type ``element``, "float" or "double", one register holds."""
        bits = 512 if "avx512f" in self.flags else 256 if _has_avx2(self.flags) else 128
        return bits // {"float": 32, "double": 64}[element]

    @property
    def registers(self) -> int:
        return 32 if self.is_arm or "avx512f" in self.flags else 16

    @property
    def is_arm(self) -> bool:
        return self.triple.startswith(("aarch64", "arm64"))


def host() -> Target:
    """This machine; with ELMAN_ISA=avx512, avx2 or plain only as much of it as that names.

    Raises OptionError for another ELMAN_ISA and for one that this processor does not have.
    """
    return _host(os.environ.get("ELMAN_ISA", ""))


@lru_cache
def _host(isa: str) -> Target:
    found: dict[str, bool] = dict(llvm.get_host_cpu_features())
    chosen = _narrowed(found, isa) if isa else found
    flags = frozenset(name for name, there in chosen.items() if there)
    features = ",".join(f"{'+' if there else '-'}{name}" for name, there in sorted(chosen.items()))
    named = llvm.get_host_cpu_name()
    return Target(
        triple=llvm.get_process_triple(),
        cpu=_NARROWED.get(isa, named) if "sse2" in found else named,
        features=features,
        flags=flags,
        l1d=_cache_bytes(1, 32 * 1024),
        l2=_cache_bytes(2, 512 * 1024),
    )


def _narrowed(found: dict[str, bool], isa: str) -> dict[str, bool]:
    """The host's features with everything wider than ``isa`` taken away."""
    has = {"avx512": found.get("avx512f", False), "plain": True}
    has["avx2"] = _has_avx2({name for name, there in found.items() if there})
    if isa not in has:
        raise unknown("ELMAN_ISA", isa, ["avx512", "avx2", "plain"])
    if not has[isa]:
        there = ", ".join(name for name in ("avx512", "avx2", "plain") if has[name])
        raise OptionError(f"ELMAN_ISA={isa}: this processor does not have it; it has {there}")
    if isa == "plain" and "sse2" in found:
        return {name: there and name in _BASELINE for name, there in found.items()}
    wide = ("avx512", "avx10", "amx") if isa == "avx2" else ("amx",) if isa == "avx512" else ()
    return {name: there and not name.startswith(wide) for name, there in found.items()}


def _has_avx2(flags: set[str] | frozenset[str]) -> bool:
    return {"avx2", "fma"} <= flags


def _cache_bytes(level: int, default: int) -> int:
    """The size of core 0's data cache of this level, where the system tells it."""
    for folder in sorted(_CACHES.glob("index*")):
        try:
            kind = (folder / "type").read_text().strip()
            if int((folder / "level").read_text()) == level and kind in ("Data", "Unified"):
                size = (folder / "size").read_text().strip()
                return int(size.rstrip("KM")) * {"K": 1024, "M": 1024 * 1024}.get(size[-1], 1)
        except (OSError, ValueError):
            continue
    return default
