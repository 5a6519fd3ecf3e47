"""What a step of AdamW costs on word vectors of which few are read in each batch.

    python benchmarks/optimizer.py

11,419 vectors of 200 numbers, as of SNIPS; each batch reads 300 words by Zipf's law, half of their
numbers dropped out. A moment of a word that is seldom read fades by 0.9 a step, into numbers so
small (denormals) that the processor takes a slow path for each; `elman train` takes them for 0,
and updates in one pass over memory.
"""

import argparse
import time
from contextlib import nullcontext

import torch
from torch import nn
from torch.optim import AdamW

from elman.train.machine import without_denormals

WORDS, SIZE, READ = 11_419, 200, 300
#: Name, arguments of AdamW, whether denormals are taken for 0.
WAYS = (
    ("torch's default", {}, False),
    ("fused", {"fused": True}, False),
    ("default, without denormals", {}, True),
    ("fused, without denormals", {"fused": True}, True),
)


def milliseconds(steps: int, timed: int, how: dict[str, bool]) -> float:
    """The mean of the last steps, the gradient not counted."""
    generator = torch.Generator().manual_seed(0)
    zipf = 1 / torch.arange(1, WORDS + 1)
    words = nn.Parameter(torch.randn(WORDS, SIZE, generator=generator))
    words.grad = torch.zeros_like(words)
    optimizer = AdamW([words], **how)
    seconds = 0.0
    for step in range(steps):
        read = torch.multinomial(zipf, READ, replacement=True, generator=generator)
        words.grad.zero_()
        kept = torch.rand(READ, SIZE, generator=generator) < 0.5
        words.grad[read] = 1e-4 * kept * torch.randn(READ, SIZE, generator=generator)
        begin = time.perf_counter()
        optimizer.step()
        if step >= steps - timed:
            seconds += time.perf_counter() - begin
    return 1e3 * seconds / timed


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=3000, help="before the end of the timing")
    parser.add_argument("--timed", type=int, default=50, help="steps at the end that are timed")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name, how, flushed in WAYS:
        with without_denormals() if flushed else nullcontext():
            print(f"{name:<28}{milliseconds(given.steps, given.timed, how):8.1f} ms a step")


if __name__ == "__main__":
    main()
