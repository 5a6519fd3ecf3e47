"""Sounds to look at: what was heard, and where each unit was said."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elman.data.audio.log_mel import LogMel
from elman.data.core.files import written_aside

#: What is drawn of a sound: log energies [T, F], the text found, the wanted one, and the units
#: found with the steps they begin with.
Drawn = tuple[Any, str, str, Sequence[tuple[str, int]]]
#: Steps of a sound that are shown.
STEPS = 400


def draw_transcripts(path: Path, sounds: Sequence[Drawn], features: LogMel) -> None:
    """Spectrograms in seconds and mel bands, each unit at the step that says it, and the texts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.2 * len(sounds)), layout="constrained")
    rows = figure.subplots(len(sounds), squeeze=False)[:, 0]
    for axes, (energies, text, wanted, units) in zip(rows, sounds, strict=True):
        shown = energies[:STEPS]
        # The frames of a step that are not in the next one again.
        kept = min(features.frames, features.stride) * features.num_mels
        picture = shown[:, :kept].reshape(-1, features.num_mels).T
        seconds = features.step_seconds
        low, high = _contrast(picture)
        extent = (0, len(shown) * seconds, -0.5, features.num_mels - 0.5)
        axes.imshow(
            picture, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high,
            extent=extent, interpolation="nearest",
        )  # fmt: skip
        for unit, step in units:
            if step < len(shown):
                at = (step + 0.5) * seconds
                axes.axvline(at, color="white", linewidth=0.5, alpha=0.6)
                axes.annotate(
                    _plain(unit), (at, 1.01), xycoords=("data", "axes fraction"), ha="center",
                    va="bottom", size=9,
                )  # fmt: skip
        cut = "" if len(shown) == len(energies) else f", the first {STEPS * seconds:g} s"
        same = "" if text == wanted else f"\nwanted: {_short(wanted)}"
        axes.set_xlabel(f"heard: {_short(text)}{cut}{same}", loc="left")
        axes.set_ylabel("mel band")
    rows[-1].set_xlabel(f"{rows[-1].get_xlabel()}\nseconds", loc="left")
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=120, format="png")


def _contrast(picture: Any) -> tuple[float, float]:
    """Silence of no energy at all would leave nothing of the rest to see."""
    high = float(picture.max())
    return max(float(picture.min()), high - 14), high


def _plain(text: str) -> str:
    # "$" begins mathematical text; a space would not be seen.
    return text.replace("$", r"\$").replace(" ", "␣")


def _short(text: str) -> str:
    return (text if len(text) <= 100 else text[:97] + "...").replace("$", r"\$")
