"""The options of `elman train pixels`."""

from dataclasses import dataclass

from elman.data.images.arrays import FITS, parse_size
from elman.data.images.pictures import pixel_order
from elman.errors import OptionError, unknown
from elman.settings import option
from elman.tasks.base.options import MediaOptions

#: The longer side of pictures where --size says nothing, at most.
LONGEST = 32


@dataclass(frozen=True)
class PixelOptions(MediaOptions):
    """What `elman train pixels` takes beside the files."""

    default_epochs = 20

    size: str | None = option(
        None, f"Height and width, as 28 or 24x32. [dim]default: the first picture's, at most "
        f"{LONGEST}[/]", "Data",
    )  # fmt: skip
    fit: str = option("crop", f"How others are made that size: {', '.join(FITS)}.", "Data")
    colour: bool = option(False, "Red, green and blue, each given the one before.", "Data")
    levels: int = option(16, "Steps from black to white: 2 is binary, 256 all there are.", "Data")
    draw_levels: bool = option(
        False,
        "Draw each level below or above, each as likely as it is near, as of binarised MNIST.",
        "Data",
    )
    permute: int | None = option(
        None, "Tell the pixels in an order drawn from this seed. [dim]default: row by row[/]",
        "Model",
    )  # fmt: skip
    context: int = option(
        3, "Rows and columns around a pixel that its step sees, where known; 0: none.", "Model"
    )
    hidden: int = option(128, "Units in each layer.", "Model")
    batch_size: int = option(32, "Pictures side by side.", "Optimisation")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None:
            parse_size(self.size)
        if self.fit not in FITS:
            raise unknown("fit", self.fit, FITS)
        pixel_order(1, self.permute)
        if self.max_length is not None:
            raise OptionError("max_length: a picture is generated whole; --size makes it smaller")

    @property
    def channels(self) -> int:
        """Values of a pixel."""
        return 3 if self.colour else 1
