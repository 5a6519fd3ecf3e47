"""What a state and a gradient that vanish cost, beside ones that do not.

    python benchmarks/vanishing.py

h' = U h + x, U = factor * 1, with a state and a gradient of 1 at the two ends. The backward
pass is timed without (the gradient of the first state) and with what torch computes after the loop
(dU); on one thread, by the time that it has had.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import elman

ORDINARY = 1.0


class Decay(elman.Cell):
    """h' = U h + x."""

    def __init__(self, size: int, factor: float) -> None:
        super().__init__(size, h=size)
        self.U = nn.Parameter(torch.eye(size) * factor)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """x, h: [..., H] -> h': [..., H]."""
        return F.linear(h, self.U) + x


def runs(size: int, factor: float, steps: int, dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    """Forward; forward and backward; the same with the gradient of U."""
    layer = elman.Recurrent(Decay(size, factor), backend="llvm").to(dtype)
    x = torch.zeros(steps, 4, size, dtype=dtype)
    h = torch.ones(4, size, dtype=dtype, requires_grad=True)

    def forward() -> None:
        with torch.no_grad():
            layer(x, h)

    def backward(*wrt: Tensor) -> None:
        y, _ = layer(x, h)
        d_y = torch.zeros_like(y)
        d_y[-1] = 1
        torch.autograd.grad(y, wrt, d_y)

    return {
        "forward": forward,
        "backward": lambda: backward(h),
        "and dU": lambda: backward(h, *layer.parameters()),
    }


def main() -> None:
    """Time each in turns, and print the best of each over the best of the ordinary one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, T = {asked.steps}, H = {asked.size}")
    for dtype in (torch.float32, torch.float64):
        best: dict[tuple[float, str], float] = {}
        factors = (ORDINARY, 0.5, 0.9)
        all_runs = {f: runs(asked.size, f, asked.steps, dtype) for f in factors}
        for _ in range(asked.rounds):
            for factor, named in all_runs.items():
                for name, run in named.items():
                    start = time.thread_time()
                    run()
                    taken = time.thread_time() - start
                    best[factor, name] = min(taken, best.get((factor, name), taken))
        for factor in factors[1:]:
            ratios = [
                f"{name} {1000 * best[factor, name]:.2f} ms, "
                f"x {best[factor, name] / best[ORDINARY, name]:.2f}"
                for name in all_runs[factor]
            ]
            print(f"{dtype}, {factor} a step: {'; '.join(ratios)}")


if __name__ == "__main__":
    main()
