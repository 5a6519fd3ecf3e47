"""What a model of tracks is judged by."""

from typing import Any

import torch
from torch import Tensor

from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.models.tracks.tracker import at, constant_velocity
from elman.tasks.base.example_predictor import batched


def errors(found: Tensor, wanted: Tensor) -> dict[str, float]:
    """Sums over tracks of how far boxes [H, B, 4] are from those wanted."""
    away = (found[..., :2] - wanted[..., :2]).norm(dim=-1)
    return {
        "away": float(away.mean(0).sum()),
        "away_last": float(away[-1].sum()),
        "overlap": float(overlap(found, wanted).mean(0).sum()),
        "windows": float(found.shape[1]),
    }


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes [..., 4]; a width or height below 0 is one of 0."""
    a_size, b_size = a[..., 2:].clamp(min=0), b[..., 2:].clamp(min=0)
    low = torch.maximum(a[..., :2] - a_size / 2, b[..., :2] - b_size / 2)
    high = torch.minimum(a[..., :2] + a_size / 2, b[..., :2] + b_size / 2)
    both = (high - low).clamp(min=0).prod(-1)
    return both / (a_size.prod(-1) + b_size.prod(-1) - both).clamp(min=1e-9)


def track_scores(sums: dict[str, float]) -> dict[str, float]:
    """How far boxes are from those wanted, from the sums over tracks that `errors` gives."""
    count = max(sums.get("windows", 0.0), 1)
    names = {"ade_pixels": "away", "fde_pixels": "away_last", "iou": "overlap"}
    return {name: sums.get(of, 0.0) / count for name, of in names.items()}


def straight_scores(examples: Examples) -> dict[str, Any]:
    """The scores of the velocity from the last two boxes, for ever; beside it of the mean velocity
    of all that were read, and of the last box again."""
    sums: dict[str, dict[str, float]] = {"constant": {}, "mean": {}, "none": {}}
    for rows in batched(examples, 256):
        t = collate(rows).tensors
        past, future, lengths = t["past"], t["future"], t["past_lengths"]
        box, ahead = at(past, lengths - 1), torch.arange(1, len(future) + 1)[:, None, None]
        mean = (box - past[0]) / (lengths - 1).clamp(min=1)[:, None]
        found = {
            "constant": constant_velocity(past, lengths, len(future)),
            "mean": box + ahead * mean,
            "none": box.expand_as(future),
        }
        for name, boxes in found.items():
            for key, value in errors(boxes, future).items():
                sums[name][key] = sums[name].get(key, 0.0) + value
    others = {"mean_velocity": track_scores(sums["mean"]), "last_box": track_scores(sums["none"])}
    return {"name": "constant velocity", **track_scores(sums["constant"]), **others}
