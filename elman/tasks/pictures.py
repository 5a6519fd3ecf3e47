"""What a person would rather look at than read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elman.data.files import written_aside
from elman.errors import OptionError


def draw_attention(path: Path, answer: Any) -> None:
    """Source against output: how much each output step looked at each input.

    answer: its attention is (weights [steps, inputs], outputs, inputs).
    """
    weights, outputs, inputs = answer.attention
    size = (2 + 0.35 * len(inputs), 2 + 0.35 * len(outputs))
    figure, axes = _figure(size)
    axes.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    _label(axes.xaxis, inputs, rotation=90)
    _label(axes.yaxis, outputs)
    axes.xaxis.tick_top()
    axes.set(title="where each output looked", ylabel="output")
    _save(figure, path)


def draw_confusion(path: Path, counts: Any, labels: Sequence[str]) -> None:
    """Truth against answer, as shares of each true label; the numbers where there is room.

    counts: [true, answered]
    """
    side = 2.5 + 0.4 * min(len(labels), 60)
    figure, axes = _figure((side, side))
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
    _label(axes.xaxis, labels, rotation=90)
    _label(axes.yaxis, labels)
    axes.set(xlabel="answered", ylabel="true")
    _save(figure, path)


def _figure(size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def _label(axis: Any, names: Sequence[str], **style: Any) -> None:
    if len(names) <= 60:  # more than that cannot be read
        # Names may hold what mathematical text would be set from.
        shown = [name.replace("$", r"\$") for name in names]
        axis.set_ticks(range(len(names)), shown, **style)


def _save(figure: Any, path: Path) -> None:
    kind = path.suffix.removeprefix(".").lower() or "png"
    valid = figure.canvas.get_supported_filetypes()
    if kind not in valid:
        raise OptionError(f"{path}: a picture is one of .{', .'.join(sorted(valid))}, as out.png")
    if not path.parent.is_dir():
        raise OptionError(f"{path}: there is no folder {path.parent}")
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=120, format=kind)
