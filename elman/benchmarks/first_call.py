"""The first call of an LSTM in a process of its own, and the second: what compiling costs.

    python -m elman.benchmarks.first_call 1 64 10

Prints the seconds of both as JSON; B, H and T are the arguments.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable

import torch

from elman.benchmarks.finding import Finding, Settings
from elman.benchmarks.grid import Point

#: Seconds after which a process is given up.
LIMIT = 300
CLAIMS = {"cold": "<= 1.5", "from the disk cache": "<= 0.1"}


def compile_time(settings: Settings) -> Iterable[Finding]:
    """Seconds that the first forward + backward takes above the second, without and with the
    cache on disk; the same for any T."""
    for point in settings.at(Point(1, 64, 10), Point(1, 64, 100_000)):
        with tempfile.TemporaryDirectory() as cache:
            for what, claim in CLAIMS.items():
                seconds = in_new_process(point, cache)
                note = "" if seconds is not None else f"took more than {LIMIT} s"
                at = f"LSTM, {point}"
                yield Finding("compile", f"compile time, {what}", at, seconds, "s", claim, note)


def in_new_process(point: Point, cache: str) -> float | None:
    """Seconds of compilation with this folder as the cache; None where it takes too long."""
    sizes = [str(size) for size in (point.batch, point.hidden, point.steps)]
    command = [sys.executable, "-m", "elman.benchmarks.first_call", *sizes]
    environment = {**os.environ, "ELMAN_CACHE": cache}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=True
        )
    except subprocess.TimeoutExpired:
        return None
    found = json.loads(done.stdout)
    return max(0.0, found["first_s"] - found["second_s"])


def main(sizes: list[str]) -> None:
    """Run both calls and print their seconds."""
    import elman

    batch, hidden, steps = map(int, sizes)
    layer = elman.LSTM(hidden, hidden)
    x = torch.randn(steps, batch, hidden, requires_grad=True)
    # torch's own first backward starts a thread: that is not ours.
    torch.autograd.grad((x[:1] @ torch.ones(hidden, hidden)).sum(), x)
    found = {}
    for name in ("first_s", "second_s"):
        begin = time.perf_counter()
        torch.autograd.grad(layer(x)[0].sum(), [x, *layer.parameters()])
        found[name] = time.perf_counter() - begin
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
