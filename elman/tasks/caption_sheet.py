"""Pictures with what was written under them, and where each word looked."""

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from PIL import Image

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
    axes[0].imshow(picture)
    axes[0].set_title(_plain(answer.text.split("\n")[0]), size=7)
    for place, word, looked in zip(axes[1:], words[:count], weights, strict=False):
        place.imshow(_lit(picture, looked / max(looked.max(), 1e-9)))
        place.set_title(_plain(word.strip() or word), size=9)
    save_figure(figure, path)


def _lit(picture: Pixels, light: Any) -> Any:
    """The picture from 0 to 1, dark where there is no light. light: [h, w] from 0 to 1."""
    size = picture.shape[1], picture.shape[0]
    spread = Image.fromarray(light.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return picture / 255 * (0.15 + 0.85 * np.asarray(spread)[..., None])


def _panels(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """A figure of places of this size, (width, height) in inches; words stand above a picture, or
    where a place is much higher than wide below it."""
    from matplotlib.figure import Figure

    width, height = size
    figure = Figure(figsize=(width * columns, height * rows))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    below = 0.9 * (height / width - 1) / (height / width) if height > 1.2 * width else 0.02
    above = 0.02 if below > 0.02 else 0.14
    figure.subplots_adjust(
        left=0.01, right=0.99, bottom=below / rows, top=1 - above / rows, wspace=0.06,
        hspace=(below + above) / (1 - below - above),
    )  # fmt: skip
    for place in axes:
        place.set_axis_off()
    return figure, axes


def _colour(right: bool) -> str:
    return "#1f5fa8" if right else "#b03030"


def _plain(text: str) -> str:
    """Lines that fit, with nothing that mathematical text would be set from."""
    return fill(text, LINE).replace("$", r"\$")
