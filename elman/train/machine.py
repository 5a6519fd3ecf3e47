"""What this machine computes with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from elman.errors import RunError, unknown

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def use_threads(threads: int | None) -> None:
    """Compute with this many CPU threads; None leaves torch's choice."""
    if threads is not None:
        torch.set_num_threads(threads)


@contextmanager
def without_denormals() -> Iterator[None]:
    """Take numbers below 1e-38 for 0, on this thread and those that it starts meanwhile.

    Moments of embeddings that are seldom read fade into such numbers and stay there, as the
    least of them times 0.9 is rounded to itself; and processors compute with them ten times slower.
    """
    before = not torch.tensor(2.0**-140).mul(1.0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def require_accelerator(name: str, devices: int) -> None:
    """Raise OptionError where there is no such kind of device, RunError where too few are here."""
    if name not in ACCELERATORS:
        raise unknown("accelerator", name, ACCELERATORS)
    missing = {
        "gpu": not torch.cuda.is_available() and not torch.backends.mps.is_available(),
        "cuda": not torch.cuda.is_available(),
        "mps": not torch.backends.mps.is_available(),
    }
    if missing.get(name, False):
        raise RunError(f"--accelerator {name}: this machine has none; use cpu or auto")
    count = torch.cuda.device_count()
    if name in ("auto", "gpu", "cuda") and 0 < count < devices:
        raise RunError(f"--devices {devices}: this machine has {count}; or --accelerator cpu")
