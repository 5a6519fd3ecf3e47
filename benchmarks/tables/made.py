"""Training on data that are made while it runs, so that no sequence comes twice."""

import math
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from common import Options
from torch import Tensor, nn

from elman.models.common.loss import Loss

#: From how many sequences, and a generator, to what the model's ``loss`` takes.
Draw = Callable[[int, torch.Generator], dict[str, Tensor]]

#: The validation and the test part are drawn with these seeds, which no training has.
VALID_SEED, TEST_SEED = 2**40 + 1, 2**40 + 2
#: Sequences of either part, and so many at once.
HELD_OUT, AT_ONCE = 1000, 100


@dataclass(frozen=True)
class Budget:
    """How long and how fast to train. An epoch is so many steps, then one look at validation."""

    epochs: int
    steps: int
    batch_size: int
    learning_rate: float
    clip: float = 1.0

    def shortened(self, options: Options) -> "Budget":
        """As --epochs and --quick say."""
        epochs = options.epochs or (1 if options.quick else self.epochs)
        steps = 3 if options.quick else self.steps
        return Budget(epochs, steps, self.batch_size, self.learning_rate, self.clip)


def fitted(
    model: Any, draw: Draw, budget: Budget, seed: int, name: str, accelerator: str = "cpu"
) -> tuple[float, float]:
    """The loss on the test part of the weights that were best in validation; training seconds.

    accelerator: cpu, or gpu. AdamW without decay, the rate down along a cosine, the norm of the
    gradient clipped.
    """
    begin = time.perf_counter()
    model.to("cpu" if accelerator == "cpu" else "cuda")
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), budget.learning_rate, weight_decay=0.0)
    total = budget.epochs * budget.steps
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    best, weights = math.inf, deepcopy(model.state_dict())
    for epoch in range(budget.epochs):
        model.train()
        for _ in range(budget.steps):
            loss = model.loss(**beside(model, draw(budget.batch_size, generator))).mean
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), budget.clip)
            optimizer.step()
            schedule.step()
        found = measured(model, draw, VALID_SEED)
        print(f"{name}  epoch {epoch + 1}  valid {found:.6g}", file=sys.stderr, flush=True)
        if found < best:
            best, weights = found, deepcopy(model.state_dict())
    seconds = time.perf_counter() - begin
    model.load_state_dict(weights)
    return measured(model, draw, TEST_SEED), seconds


def measured(model: Any, draw: Draw, seed: int) -> float:
    """The mean loss over `HELD_OUT` sequences that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    model.eval()
    losses: list[Loss] = []
    with torch.inference_mode():
        for _ in range(HELD_OUT // AT_ONCE):
            losses.append(model.loss(**beside(model, draw(AT_ONCE, generator))))
    return sum(float(loss.total) for loss in losses) / sum(int(loss.count) for loss in losses)


def beside(model: Any, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
    """What was drawn, on the model's device: the same numbers for every device."""
    device = next(model.parameters()).device
    return {name: tensor.to(device) for name, tensor in drawn.items()}
