"""Copy memory, T = 1000: say ten symbols again after a thousand steps of nothing.

    python benchmarks/tables/copy_memory.py

Ten symbols out of 1 ... 8, 999 blanks (0), eleven marks (9); the answer is blank but for the last
ten steps, which repeat the ten symbols (Arjovsky et al. 2016, Bai et al. 2018). The loss is the
cross entropy in nats over all 1,020 steps. Without memory the best is 10 ln 8 / 1020.
"""

import math
from typing import Any

import torch
from common import Row, parsed, report
from made import Budget, fitted
from torch import Tensor

from elman.models import Tagger

BLANKS, SYMBOLS, KINDS = 1000, 10, 10
HIDDEN = 128
BUDGET = Budget(epochs=20, steps=250, batch_size=32, learning_rate=0.002)
#: Cell, published by Bai et al. 2018, Table 1.
CELLS = (("lstm", "0.0204"), ("gru", "0.0197"), ("elman", "0.0202"))
#: The gates that keep the state start open for 1 ... 1020 steps (Tallec & Ollivier 2018).
CHRONO = {"init": "chrono", "t_max": BLANKS + 2 * SYMBOLS}
START: dict[str, dict[str, Any]] = {"lstm": CHRONO, "gru": CHRONO, "elman": {}}


def drawn(count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """x, tags: [T + 20, B] ids."""
    symbols = torch.randint(1, KINDS - 1, (SYMBOLS, count), generator=generator)
    blanks = torch.zeros(BLANKS + SYMBOLS, count, dtype=torch.int64)
    marks = torch.full((SYMBOLS + 1, count), KINDS - 1)
    return {
        "x": torch.cat((symbols, blanks[: BLANKS - 1], marks)),
        "x_lengths": torch.full((count,), BLANKS + 2 * SYMBOLS),
        "tags": torch.cat((blanks, symbols)),
    }


def main() -> None:
    """Train each cell once for each seed, print the table."""
    options = parsed("copy_memory", __doc__, only=[cell for cell, _ in CELLS])
    rows, seconds = [], []
    beside = f"{SYMBOLS * math.log(KINDS - 2) / (BLANKS + 2 * SYMBOLS):.4f} (no memory)"
    for cell, published in options.chosen(CELLS):
        values = []
        for seed in options.seeds:
            torch.manual_seed(seed)
            model = Tagger(
                KINDS,
                vocab_size=KINDS,
                embedding_size=KINDS,
                hidden_size=HIDDEN,
                bidirectional=False,
                cell=cell,
                cell_options=START[cell],
            )
            budget, name = BUDGET.shortened(options), f"{cell} {seed}"
            found, took = fitted(model, drawn, budget, seed, name, options.accelerator)
            values.append(found)
            seconds.append(took)
        name = f"{cell}, nats a step"
        rows.append(Row(name, values, f"{published} (Bai et al. 2018)", beside, digits=5))
    report(options, f"copy memory, T = {BLANKS}", rows, seconds)


if __name__ == "__main__":
    main()
