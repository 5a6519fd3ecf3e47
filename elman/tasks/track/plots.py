"""Boxes over time: given, observed, predicted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elman.tasks.base.figures import figure_of, save_figure

COLOURS = {"given": "0.6", "observed": "C0", "predicted": "C1", "constant velocity": "C3"}


def draw_tracks(path: Path, panels: Sequence[Sequence[Any]]) -> None:
    """A panel for each track, x and y as in the picture: the centres as lines, and a box at the
    end of each.

    panels: [T, 4] boxes that were given, observed and predicted, and that constant velocity
    says; left, top, width, height.
    """
    rows = -(-len(panels) // 3)
    figure, axes = figure_of((12, 4 * rows), rows, min(len(panels), 3))
    for axis, panel in zip(np.atleast_1d(axes).flat, panels, strict=False):
        last = panel[0][-1:]
        for (name, colour), boxes in zip(COLOURS.items(), panel, strict=True):
            line = boxes if name == "given" else np.concatenate((last, boxes))
            centres = line[:, :2] + line[:, 2:] / 2
            dashed = name == "constant velocity"
            style = "--" if dashed else ".-"
            axis.plot(*centres.T, style, color=colour, label=name, markersize=4, linewidth=1.2)
            if not dashed:
                _draw_box(axis, boxes[-1], colour)
        axis.set_aspect("equal", adjustable="datalim")
        axis.invert_yaxis()
        axis.grid(alpha=0.3)
    for axis in np.atleast_1d(axes).flat[len(panels) :]:
        axis.remove()
    np.atleast_1d(axes).flat[0].legend(fontsize=8)
    save_figure(figure, path)


def _draw_box(axis: Any, box: Any, colour: str) -> None:
    x, y, w, h = box
    axis.plot([x, x + w, x + w, x, x], [y, y, y + h, y + h, y], color=colour, linewidth=0.8)
