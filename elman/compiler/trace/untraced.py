"""Outside of everything that watches what torch does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.utils._python_dispatch import _disable_current_modes


@contextmanager
def untraced() -> Iterator[None]:
    """Run torch's operations for ourselves: no mode, transform or tracer that is at work sees
    them, and a tensor is an ordinary one, on the CPU unless a device is named."""
    with (
        _no_function_modes(),
        _disable_current_modes(),
        temporarily_clear_interpreter_stack(),
        _no_jit_trace(),
        torch.inference_mode(False),
    ):
        yield


@contextmanager
def _no_function_modes() -> Iterator[None]:
    """Such as that of `torch.device` as a context."""
    modes = []
    while torch._C._len_torch_function_stack():
        modes.append(torch._C._pop_torch_function_stack())
    try:
        yield
    finally:
        for mode in reversed(modes):
            torch._C._push_on_torch_function_stack(mode)


@contextmanager
def _no_jit_trace() -> Iterator[None]:
    """`torch.jit.trace` records nothing."""
    state = torch._C._get_tracing_state()
    if state is None:  # inside an operator it cannot even be set to what it is
        yield
        return
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]
