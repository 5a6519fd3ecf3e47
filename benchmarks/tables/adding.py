"""The adding problem, T = 600: the sum of the two numbers that are marked among 600.

    python benchmarks/tables/adding.py

Numbers are uniform in [0, 1], two places are marked in a second channel, as Bai et al. 2018 make
them; the loss is the squared error on 1,000 sequences. Always saying 1 costs 1/6. The gates that
keep the state start open for 1 ... 600 steps (chrono, Tallec & Ollivier 2018).
"""

import torch
from common import Row, parsed, report
from made import Budget, fitted
from torch import Tensor

from elman.models import Regressor

LENGTH = 600
HIDDEN = 32
START = {"init": "chrono", "t_max": LENGTH}
BUDGET = Budget(epochs=20, steps=250, batch_size=50, learning_rate=0.005)
#: Cell, published by Bai et al. 2018, Table 1.
CELLS = (("lstm", "0.164"), ("gru", "5.3e-5"))


def drawn(count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """x: [T, B, 2], numbers and marks; target: [B]."""
    numbers = torch.rand(LENGTH, count, generator=generator)
    places = torch.rand(LENGTH, count, generator=generator).topk(2, dim=0).indices
    marks = torch.zeros(LENGTH, count).scatter_(0, places, 1.0)
    x, target = torch.stack((numbers, marks), dim=-1), (numbers * marks).sum(0)
    return {"x": x, "x_lengths": torch.full((count,), LENGTH), "target": target}


def main() -> None:
    """Train both cells once for each seed, print the table."""
    options = parsed("adding", __doc__, only=[cell for cell, _ in CELLS])
    rows, seconds = [], []
    for cell, published in options.chosen(CELLS):
        values = []
        for seed in options.seeds:
            torch.manual_seed(seed)
            model = Regressor(input_size=2, hidden_size=HIDDEN, cell=cell, cell_options=START)
            budget, name = BUDGET.shortened(options), f"{cell} {seed}"
            found, took = fitted(model, drawn, budget, seed, name, options.accelerator)
            values.append(found)
            seconds.append(took)
        beside = f"{1 / 6:.4f} (always 1)"
        name = f"{cell}, squared error"
        rows.append(Row(name, values, f"{published} (Bai et al. 2018)", beside, digits=6))
    report(options, f"adding problem, T = {LENGTH}", rows, seconds)


if __name__ == "__main__":
    main()
