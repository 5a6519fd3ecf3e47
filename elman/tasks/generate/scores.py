"""What a generator is judged by: the bound on its likelihood, its parts, and a tighter one."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.data.text.corpus import ProgressCallback
from elman.tasks.base.example_predictor import batched
from elman.tasks.base.independent import Independent
from elman.tasks.generate.options import GenerateOptions

#: The tighter bound at the end is taken on so many examples at most.
BOUNDED = 500


def labels_of(tensors: dict[str, Tensor]) -> Tensor:
    """[B] labels, or [B, D] vectors, which lie in a batch as sequences do."""
    label = tensors["label"]
    return label.T if label.dim() == 2 else label


def bound_parts(model: Any, x: Tensor, lengths: Tensor, seed: int) -> dict[str, float]:
    """The sums of both parts of the bound over a batch."""
    with _fixed_noise(seed, x):
        log_prob, kl = model.elbo_parts(x, lengths)
    return {"reconstruction": float(-log_prob), "kl": float(kl)}


def tighter_bound(
    model: Any,
    examples: Examples,
    options: GenerateOptions,
    report: ProgressCallback | None = None,
) -> float:
    """-log p(x) by importance sampling, the mean over at most `BOUNDED` examples, evenly spread."""
    chosen = np.unique(np.linspace(0, len(examples) - 1, BOUNDED).astype(int)).tolist()
    total, done = 0.0, 0
    for rows in batched((examples[i] for i in chosen), options.batch_size):
        t = collate(rows).tensors
        with torch.inference_mode(), _fixed_noise(options.seed, t["x"]):
            bound = model.log_likelihood(t["x"], t["x_lengths"], options.importance)
        total, done = total - float(bound.sum()), done + len(rows)
        if report is not None:
            report("drawing for a tighter bound", done, len(chosen))
    return total / done


def independent_nats(model: Independent, examples: Examples) -> tuple[float, float]:
    """-log p of independent items: the mean over examples, and over items, ends among them."""
    total = sum(model.nats(np.asarray(row["x"])) for row in examples)
    items = examples.sizes("x").sum() + (len(examples) if model.kind == "text" else 0)
    return total / len(examples), total / max(int(items), 1)


@contextmanager
def _fixed_noise(seed: int, x: Tensor) -> Iterator[None]:
    """Draws that x decides: what is measured twice is the same, and training is left alone."""
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed ^ zlib.crc32(x.cpu().numpy().tobytes()))
        yield
