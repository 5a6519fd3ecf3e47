"""curves.png: a training at a glance."""

import math
from collections.abc import Sequence
from pathlib import Path

from elman.data.files import written_aside


def draw_curves(
    path: Path, rows: Sequence[dict], clip: float, characters_per_token: float = 1.0
) -> None:
    """Loss, bits per character and the gradient's norm before clipping, over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, bits, norm = figure.subplots(1, 3)
    for label, column, style in (
        ("training", "train_loss_nats", {"linewidth": 0.7, "alpha": 0.6}),
        ("validation", "valid_loss_nats", {"marker": "o", "markersize": 3}),
    ):
        points = [(r["step"], r[column]) for r in rows if r[column] is not None]
        if points:
            steps, values = zip(*points, strict=True)
            loss.plot(steps, values, label=label, **style)
            per_character = [v / math.log(2) / characters_per_token for v in values]
            bits.plot(steps, per_character, label=label, **style)
    points = [(r["step"], r["grad_norm"]) for r in rows if r["grad_norm"] is not None]
    if points:
        norm.plot(*zip(*points, strict=True), linewidth=0.7)
        norm.set_yscale("log")
    if clip:
        norm.axhline(clip, color="black", linestyle="--", linewidth=0.8, label=f"clip = {clip:g}")
    loss.set(title="loss", ylabel="nats a token", xlabel="step")
    bits.set(title="bits per character", xlabel="step")
    norm.set(title="gradient norm before clipping", xlabel="step")
    for axes in (loss, bits, norm):
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        axes.grid(alpha=0.3)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=100, format="png")
