"""What elman finds on this machine, and whether it works: what `elman doctor` shows first."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import torch

from elman import __version__
from elman.backends.cpu.jit import cache
from elman.backends.cpu.jit.target import host
from elman.backends.cpu.threads import openmp
from elman.errors import ElmanError
from elman.layers import LSTM


class Finding(NamedTuple):
    """One line: what it is about, what was found, and whether something is wrong with it."""

    name: str
    text: str
    wrong: bool = False


def installation() -> list[Finding]:
    """Versions, the processor, threads, the code cache, and one kernel against torch.nn."""
    return [_versions(), _processor(), _threads(), _cache(), _kernel()]


def _versions() -> Finding:
    found = [f"elman {__version__}", f"Python {platform.python_version()}"]
    for name in ("torch", "llvmlite"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            return Finding("versions", f"{name} is not installed", wrong=True)
    return Finding("versions", ", ".join(found))


def _processor() -> Finding:
    try:
        target = host()
    except ElmanError as error:
        return Finding("processor", str(error), wrong=True)
    wide = [name for name in ("avx512f", "avx2", "fma", "neon") if name in target.flags]
    lanes, caches = target.lanes("float"), f"{target.l1d >> 10} KiB + {target.l2 >> 10} KiB"
    return Finding(
        "processor",
        f"{target.cpu}, {target.triple}: {', '.join(wide) or 'no wide vectors'}; {lanes} floats a "
        f"register, {caches} of cache a core",
    )


def _threads() -> Finding:
    found = openmp._launcher().table is not None
    text = f"{openmp.max_threads()} for a kernel, {torch.get_num_threads()} for torch; "
    if found:
        return Finding("threads", text + "on torch's own OpenMP team")
    return Finding("threads", text + "on a pool of elman's own: torch's OpenMP was not found")


def _cache() -> Finding:
    folder = cache._folder()
    if folder is None:
        text = "no folder to keep compiled code in: each process compiles anew; set ELMAN_CACHE"
        return Finding("code cache", text, wrong=True)
    entries = list(folder.glob("*" + cache.SUFFIX))
    taken, free = sum(e.stat().st_size for e in entries), shutil.disk_usage(folder).free
    text = f"{folder}, {len(entries)} loops, {taken >> 20} MiB of at most {cache.LIMIT >> 20}"
    return Finding("code cache", f"{text}; {free >> 20} MiB free")


def _kernel() -> Finding:
    layer = LSTM(5, 7, backend="llvm")
    peer = torch.nn.LSTM(5, 7)
    peer.load_state_dict(layer.state_dict())
    x = torch.linspace(-1, 1, 9 * 3 * 5).view(9, 3, 5)
    try:
        with torch.no_grad():
            apart = float((layer(x)[0] - peer(x)[0]).abs().max())
    except ElmanError as error:
        return Finding("a kernel", f"an LSTM does not run: {error}", wrong=True)
    return Finding("a kernel", f"an LSTM, {apart:.1e} from torch.nn's", wrong=not apart < 1e-5)
