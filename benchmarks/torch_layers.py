"""elman's RNN, LSTM and GRU beside torch.nn's: forward and backward, one run, same weights.

    python benchmarks/torch_layers.py

The ratio is torch's time over ours: below 1 we are slower. No time is printed for a layer whose
outputs or gradients differ from torch's.
"""

import time
from collections.abc import Callable

import torch

import elman

SHAPES = [(1, 256, 256), (16, 256, 100), (64, 512, 64)]  # B, I = H, T
REPEATS = 7


def milliseconds(run: Callable[[], object]) -> float:
    """The shortest of several runs, after one to warm up."""
    run()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return 1000 * min(times)


def gradients(layer: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Outputs and the gradients of their sum with respect to x and all parameters."""
    outputs = layer(x)[0]
    return [outputs, *torch.autograd.grad(outputs.sum(), [x, *layer.parameters()])]


def main() -> None:
    """Print the table."""
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, float32, forward + backward, milliseconds")
    print(f"{'layer':6}{'B, H, T':>16}{'torch.nn':>10}{'elman':>10}{'ratio':>8}")
    for name in ("RNN", "LSTM", "GRU"):
        for batch, hidden, steps in SHAPES:
            ours = getattr(elman, name)(hidden, hidden)
            theirs = getattr(torch.nn, name)(hidden, hidden)
            theirs.load_state_dict(ours.state_dict())
            x = torch.randn(steps, batch, hidden, requires_grad=True)
            for one, two in zip(gradients(ours, x), gradients(theirs, x), strict=True):
                torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)
            times = [milliseconds(lambda layer=m, x=x: gradients(layer, x)) for m in (theirs, ours)]
            shape = f"{batch}, {hidden}, {steps}"
            print(f"{name:6}{shape:>16}{times[0]:10.1f}{times[1]:10.1f}{times[0] / times[1]:8.2f}")


if __name__ == "__main__":
    main()
