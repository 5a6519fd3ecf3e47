"""The memory of a process that trains on sequences of ever other lengths.

python benchmarks/lengths.py --calls 10000
"""

from __future__ import annotations

import argparse
import random
import resource
from pathlib import Path

import torch

import elman


def resident() -> int:
    """Bytes of memory that the process has now; where the system does not tell, at its peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Train, and tell from time to time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--longest", type=int, default=400)
    asked = parser.parse_args()
    layer, r = elman.LSTM(32, 64), random.Random(0)
    for call in range(asked.calls + 1):
        if call % max(1, asked.calls // 10) == 0:
            mib = [f"{n / 2**20:.0f}" for n in (resident(), elman.memory.held())]
            print(f"{call:6} calls: {mib[0]} MiB resident, of which {mib[1]} kept", flush=True)
        x = torch.randn(r.randint(1, asked.longest), 32, 32)
        layer(x)[0].square().mean().backward()
        layer.zero_grad()


if __name__ == "__main__":
    main()
