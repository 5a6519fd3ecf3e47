"""The options of `elman train track`."""

from dataclasses import dataclass

from elman.data.tracks.boxes import GAPS
from elman.errors import OptionError, require_positive, require_probability, unknown
from elman.models.tracks.tracker import CHANGES, COORDINATES, DECODERS
from elman.settings import option
from elman.tasks.base.options import ExampleOptions


@dataclass(frozen=True)
class TrackOptions(ExampleOptions):
    """What `elman train track` takes beside the files."""

    default_epochs = 20

    observe: int = option(8, "Boxes of a track that are read.", "Data")
    predict: int = option(12, "Boxes after them that are predicted.", "Data")
    stride: int = option(1, "Frames from window to window in a track.", "Data")
    frame_step: int = option(1, "Use only every n-th frame of a track.", "Data")
    gaps: str = option(
        "interpolate", f"Of missing boxes: {', '.join(GAPS)} the track in two.", "Data"
    )
    longest_gap: int = option(10, "Missing boxes in a row that are interpolated at most.", "Data")
    track_column: str | None = option(
        None, "The column of tracks. [dim]default: track, id[/]", "Data"
    )
    frame_column: str | None = option(None, "The column of frames. [dim]default: frame[/]", "Data")
    x_column: str | None = option(None, "Left edge. [dim]default: x, left, bb_left ...[/]", "Data")
    y_column: str | None = option(None, "Upper edge. [dim]default: y, top, bb_top ...[/]", "Data")
    w_column: str | None = option(None, "Width. [dim]default: w, width, bb_width[/]", "Data")
    h_column: str | None = option(None, "Height. [dim]default: h, height, bb_height[/]", "Data")
    header: bool = option(True, "Whether the first line of a table names the columns.", "Data")
    delimiter: str | None = option(
        None, "What stands between columns. [dim]default: by the file's name[/]", "Data"
    )
    valid_fraction: float = option(0.2, "Share of the tracks that is kept for validation.", "Data")
    hidden: int = option(64, "Units in each layer.", "Model")
    cell: str = option("gru", "A cell of `elman cells`, or your own as path.py:ClassName.", "Model")
    decoder: str = option("direct", f"How the boxes are predicted: {', '.join(DECODERS)}.", "Model")
    coordinates: str = option(
        "offsets", f"What is read of a box: {', '.join(COORDINATES)}.", "Model"
    )
    change_from: str = option(
        "velocity", f"What the model corrects: constant {' or the last '.join(CHANGES)}.", "Model"
    )
    velocity_steps: int = option(3, "Steps that this velocity is the mean of.", "Model")
    mirror: float = option(
        0.5, "Share of the training windows that are mirrored, left and right.", "Regularisers"
    )
    shorten: float = option(
        0.1, "Share of the training windows that lack some of the first boxes.", "Regularisers"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("observe", "predict", "stride", "frame_step", "velocity_steps")
        require_positive(**{name: getattr(self, name) for name in sizes})
        require_probability(mirror=self.mirror, shorten=self.shorten)
        if self.gaps not in GAPS:
            raise unknown("rule for gaps", self.gaps, GAPS)
        if self.longest_gap < 0:
            raise OptionError(f"longest_gap must be 0 or above, got {self.longest_gap}")
