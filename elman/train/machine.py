"""What this machine computes with."""

import torch

from elman.errors import RunError, unknown

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def use_threads(threads: int | None) -> None:
    """Compute with this many CPU threads; None leaves torch's choice."""
    if threads is not None:
        torch.set_num_threads(threads)


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
