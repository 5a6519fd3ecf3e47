"""What a person would rather look at than read."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from elman.data.core.files import written_aside
from elman.errors import OptionError

#: Words under a picture are broken after so many characters.
LINE = 24


def draw_confusion(path: Path, counts: Any, labels: Sequence[str]) -> None:
    """Truth against prediction, as shares of each true label; the numbers where there is room.

    counts: [true, predicted]
    """
    side = 2.5 + 0.4 * min(len(labels), 60)
    figure, axes = figure_of((side, side))
    share = counts / counts.sum(1, keepdims=True).clip(1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= 20:
        for i in range(len(labels)):
            for j in range(len(labels)):
                if counts[i, j]:
                    colour = "white" if share[i, j] > 0.5 else "black"
                    axes.text(
                        j, i, f"{int(counts[i, j])}", ha="center", va="center", color=colour, size=8
                    )
    label_axis(axes.xaxis, labels, rotation=90)
    label_axis(axes.yaxis, labels)
    axes.set(xlabel="predicted", ylabel="true")
    save_figure(figure, path)


def draw_sheet(path: Path, rows: Sequence[tuple[str, Sequence[Any]]]) -> None:
    """Series side by side in named rows: pictures of one step a line, or curves where F < 4.

    rows: (name, series [T, F]) each; T may differ.
    """
    series = [values for _, several in rows for values in several]
    least, most = min(v.min() for v in series), max(v.max() for v in series)
    height, width = max(len(v) for v in series), series[0].shape[1]
    columns = max(len(several) for _, several in rows)
    figure, axes = figure_of((2.2 + 0.9 * columns, 0.4 + 0.9 * len(rows)))
    if width < 4:
        _draw_curves(axes, rows, height, least, most)
    else:
        sheet = np.full((len(rows) * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
        for i, (_, several) in enumerate(rows):
            for j, values in enumerate(several):
                top, left = i * (height + 1), j * (width + 1)
                sheet[top : top + len(values), left : left + width] = values
        colours = _colour_map("Greys").with_extremes(bad="#c8d8e8")
        axes.imshow(sheet, cmap=colours, vmin=least, vmax=most, interpolation="nearest")
        axes.set_yticks([i * (height + 1) + height / 2 for i in range(len(rows))])
    axes.set_yticklabels([name[:14].replace("$", r"\$") for name, _ in rows])
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    save_figure(figure, path)


def draw_rolls(path: Path, rolls: Sequence[tuple[str, Any]], lowest: int) -> None:
    """Piano rolls below each other, on the keys that sound in any: key over frame.

    rolls: (name, [T, K] of 0 ... 1) each. lowest: the MIDI number of the first key.
    """
    sounds = np.flatnonzero(np.max([values.max(0) for _, values in rolls], 0) > 0.1)
    low, high = (sounds[0], sounds[-1]) if len(sounds) else (0, 87)
    frames = max(len(values) for _, values in rolls)
    width = float(np.clip(0.1 * frames, 6, 16))
    figure, axes = figure_of((width, 0.5 + 2.2 * len(rolls)), len(rolls))
    for axis, (name, values) in zip(np.atleast_1d(axes), rolls, strict=True):
        edges = (-0.5, len(values) - 0.5, lowest + low - 0.5, lowest + high + 0.5)
        axis.imshow(
            values[:, low : high + 1].T, cmap="Greys", vmin=0, vmax=1, origin="lower",
            aspect="auto", extent=edges, interpolation="nearest",
        )  # fmt: skip
        octaves = range(-(-(lowest + low) // 12) * 12, lowest + high + 1, 12)
        axis.set_yticks(octaves, [f"C{key // 12 - 1}" for key in octaves])
        axis.set(title=name, xlim=(-0.5, frames - 0.5))
        axis.grid(axis="y", alpha=0.3)
    axis.set(xlabel="frame")
    save_figure(figure, path)


def _draw_curves(
    axes: Any, rows: Sequence[tuple[str, Sequence[Any]]], length: int, least: float, most: float
) -> None:
    for i, (_, several) in enumerate(rows):
        for j, values in enumerate(several):
            steps = j * 1.1 * max(length, 2) + np.arange(len(values))
            axes.set_prop_cycle(None)  # each series begins with the first colour
            axes.plot(steps, 0.8 * (values - least) / max(most - least, 1e-12) - i, linewidth=0.8)
    axes.set_yticks([0.4 - i for i in range(len(rows))])


def _colour_map(name: str) -> Any:
    from matplotlib import colormaps

    return colormaps[name]


def figure_of(size: tuple[float, float], rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A figure of this size in inches, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns)


def label_axis(axis: Any, names: Sequence[str], **style: Any) -> None:
    """A tick for each name, where they are few enough to be read."""
    if len(names) <= 60:
        # Names may hold what mathematical text would be set from.
        shown = [name.replace("$", r"\$") for name in names]
        axis.set_ticks(range(len(names)), shown, **style)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure, whole or not at all; OptionError for a name that no picture has."""
    kind = path.suffix.removeprefix(".").lower() or "png"
    valid = figure.canvas.get_supported_filetypes()
    if kind not in valid:
        raise OptionError(f"{path}: a picture is one of .{', .'.join(sorted(valid))}, as out.png")
    if not path.parent.is_dir():
        raise OptionError(f"{path}: there is no folder {path.parent}")
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=120, format=kind)


def panels(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
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


def plain(text: str) -> str:
    """Lines that fit, with nothing that mathematical text would be set from."""
    return fill(text, LINE).replace("$", r"\$")
