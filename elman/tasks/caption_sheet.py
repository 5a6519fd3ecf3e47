"""Pictures with what was written under them, and where each word looked."""

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from elman.data.images import Pixels
from elman.tasks.pictures import save_figure

#: Words under a picture are broken after so many characters.
LINE = 24
#: Words whose looks are drawn.
MOST = 14


def draw_captions(path: Path, rows: Sequence[tuple[Pixels, str, Sequence[str]]]) -> None:
    """Pictures, under each the caption that was written, blue where it is right, else in red with
    one that would have been right.

    rows: (picture, written, wanted) each.
    """
    columns = min(4, len(rows))
    figure, axes = _panels(math.ceil(len(rows) / columns), columns, (2.4, 3.0))
    for place, (picture, written, wanted) in zip(axes, rows, strict=False):
        right = written in wanted
        place.imshow(picture, interpolation="nearest" if max(picture.shape) <= 64 else None)
        place.set_title(_plain(written), y=-0.04, va="top", size=8, color=_colour(right))
        if not right:
            # Below the lines of the written one.
            lines = 1 + _plain(written).count("\n")
            place.text(
                0.5, -0.06 - 0.07 * lines, _plain(wanted[0]), size=7, color="0.45",
                transform=place.transAxes, ha="center", va="top",
            )  # fmt: skip
    save_figure(figure, path)


def draw_looks(path: Path, answer: Any) -> None:
    """The picture once for each word, bright where the model looked when it wrote it.

    answer: its attention is (weights [steps, h, w], words, picture [H, W, 3]).
    """
    weights, words, picture = answer.attention
    count = min(len(words), MOST)
    columns = min(5, count + 1)
    figure, axes = _panels(math.ceil((count + 1) / columns), columns, (1.9, 2.1))
    height, width = picture.shape[:2]
    axes[0].imshow(picture)
    axes[0].set_title(_plain(answer.text.split("\n")[0]), size=7)
    grey = picture.mean(axis=2, keepdims=True).repeat(3, axis=2).astype(np.uint8)
    for place, word, looked in zip(axes[1:], words[:count], weights, strict=False):
        place.imshow(grey, alpha=0.6)
        place.imshow(
            looked / max(looked.max(), 1e-9), cmap="inferno", alpha=0.6, vmin=0, vmax=1,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="bilinear",
        )  # fmt: skip
        place.set_title(_plain(word.strip() or word), size=9)
    save_figure(figure, path)


def _panels(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * columns, size[1] * rows))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    # Pictures touch the sheet's sides, and leave the space between the rows to the words.
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.3 / rows, top=1 - 0.14 / rows)
    figure.subplots_adjust(wspace=0.06, hspace=0.42 if size[1] > 1.2 * size[0] else 0.22)
    for place in axes:
        place.set_axis_off()
    return figure, axes


def _colour(right: bool) -> str:
    return "#1f5fa8" if right else "#b03030"


def _plain(text: str) -> str:
    """Lines that fit, with nothing that mathematical text would be set from."""
    return fill(text, LINE).replace("$", r"\$")
