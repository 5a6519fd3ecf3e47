"""curves.png: a training at a glance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elman.data.core.files import written_aside


def draw_curves(path: Path, rows: Sequence[dict], loss_name: str, clip: float) -> None:
    """The loss, the other scores of the validations and the gradient's norm before clipping, over
    the steps."""
    from matplotlib.figure import Figure

    others = dict.fromkeys(name for row in rows for name in row if name.startswith("valid_"))
    others.pop(f"valid_{loss_name}", None)
    figure = Figure(figsize=(4 * (2 + len(others)), 3.6), layout="constrained")
    loss, *scores, norm = figure.subplots(1, 2 + len(others))
    _plot(loss, rows, f"train_{loss_name}", label="training", linewidth=0.7, alpha=0.6)
    _plot(loss, rows, f"valid_{loss_name}", label="validation", marker="o", markersize=3)
    for axes, name in zip(scores, others, strict=True):
        _plot(axes, rows, name, label="validation", marker="o", markersize=3, color="C1")
        axes.set(title=name.removeprefix("valid_").replace("_", " "), xlabel="step")
    _plot(norm, rows, "grad_norm", linewidth=0.7)
    norm.set_yscale("log")
    if clip:
        norm.axhline(clip, color="black", linestyle="--", linewidth=0.8, label=f"clip = {clip:g}")
    loss.set(title=loss_name.replace("_", " "), xlabel="step")
    norm.set(title="gradient norm before clipping", xlabel="step")
    for axes in (loss, *scores, norm):
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        axes.grid(alpha=0.3)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=100, format="png")


def _plot(axes: Any, rows: Sequence[dict], column: str, **style: Any) -> None:
    points = [(row["step"], row[column]) for row in rows if row.get(column) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), **style)
