"""Pictures of attention: where each output looked."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from elman.data.images.arrays import Pixels
from elman.tasks.base.figures import figure_of, label_axis, panels, plain, save_figure

#: Words whose looks are drawn.
MOST = 14


def draw_attention(path: Path, answer: Any) -> None:
    """Source against output: how much each output step looked at each input.

    answer: its attention is (weights [steps, inputs], outputs, inputs); over a picture it is
    (weights [steps, h, w], outputs, picture).
    """
    weights, outputs, inputs = answer.attention
    if weights.ndim == 3:
        _draw_looks(path, answer)
        return
    size = (2 + 0.35 * len(inputs), 2 + 0.35 * len(outputs))
    figure, axes = figure_of(size)
    axes.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    label_axis(axes.xaxis, inputs, rotation=90)
    label_axis(axes.yaxis, outputs)
    axes.xaxis.tick_top()
    axes.set(title="where each output looked", ylabel="output")
    save_figure(figure, path)


def _draw_looks(path: Path, answer: Any) -> None:
    """The picture once for each word, bright where the model looked when it wrote it.

    answer: its attention is (weights [steps, h, w], words, picture [H, W, 3]).
    """
    weights, words, picture = answer.attention
    count = min(len(words), MOST)
    columns = min(5, count + 1)
    figure, axes = panels(math.ceil((count + 1) / columns), columns, (1.9, 2.1))
    axes[0].imshow(picture)
    axes[0].set_title(plain(answer.text.split("\n")[0]), size=7)
    for place, word, looked in zip(axes[1:], words[:count], weights, strict=False):
        place.imshow(_lit(picture, looked / max(looked.max(), 1e-9)))
        place.set_title(plain(word.strip() or word), size=9)
    save_figure(figure, path)


def _lit(picture: Pixels, light: Any) -> Any:
    """The picture from 0 to 1, dark where there is no light. light: [h, w] from 0 to 1."""
    size = picture.shape[1], picture.shape[0]
    spread = Image.fromarray(light.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return picture / 255 * (0.15 + 0.85 * np.asarray(spread)[..., None])
