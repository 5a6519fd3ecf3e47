"""Pictures with what was written under them."""

import math
from collections.abc import Sequence
from pathlib import Path

from elman.data.images.arrays import Pixels
from elman.tasks.base.figures import panels, plain, save_figure


def draw_captions(path: Path, rows: Sequence[tuple[Pixels, str, Sequence[str]]]) -> None:
    """Pictures, under each the caption that was written, blue where it is right, else in red with
    one that would have been right.

    rows: (picture, written, wanted) each.
    """
    columns = min(4, len(rows))
    figure, axes = panels(math.ceil(len(rows) / columns), columns, (2.4, 3.0))
    for place, (picture, written, wanted) in zip(axes, rows, strict=False):
        right = written in wanted
        place.imshow(picture, interpolation="nearest" if max(picture.shape) <= 64 else None)
        place.set_title(plain(written), y=-0.04, va="top", size=8, color=_colour(right))
        if not right:
            # Below the lines of the written one.
            lines = 1 + plain(written).count("\n")
            place.text(
                0.5, -0.06 - 0.07 * lines, plain(wanted[0]), size=7, color="0.45",
                transform=place.transAxes, ha="center", va="top",
            )  # fmt: skip
    save_figure(figure, path)


def _colour(right: bool) -> str:
    return "#1f5fa8" if right else "#b03030"
