"""The options of `elman train caption`."""

from dataclasses import dataclass, fields

from elman.data.images.arrays import FITS, parse_size
from elman.data.images.captions import CaptionOptions
from elman.errors import OptionError, require_positive, require_probability, unknown
from elman.models.images.augment import Augment
from elman.models.images.backbones import check_name, is_backbone
from elman.settings import option
from elman.tasks.base.options import MediaOptions, TextOptions

ATTENTIONS = ("none", "dot", "general", "additive")
#: Of a picture's sides, where nothing else is said; networks of other libraries were made for it.
LARGEST = 224
#: What only the built-in encoder has, or only one of another library.
OF_CONV, OF_BACKBONE = ("features", "grid"), ("pretrained", "freeze")


@dataclass(frozen=True)
class CaptioningOptions(MediaOptions, TextOptions):
    """What `elman train caption` takes beside the files."""

    default_epochs = 20

    batch_size: int = option(32, "Pictures side by side.", "Optimisation")
    images: str | None = option(
        None, "The folder of the pictures. [dim]default: that of the captions' file[/]", "Data"
    )
    picture_column: str | None = option(
        None, "The column of pictures' files. [dim]default: file, image, path ...[/]", "Data"
    )
    caption_column: str | None = option(
        None, "The column of captions. [dim]default: caption, text, title ...[/]", "Data"
    )
    size: str | None = option(
        None,
        "Read all pictures so large, as 64 or 48x64 (height x width). [dim]default: as they are "
        f"where all are alike and at most {LARGEST}, else 64; {LARGEST} with another --encoder[/]",
        "Data",
    )
    fit: str = option("pad", f"How other shapes are fitted: {', '.join(FITS)}.", "Data")
    lower_case: bool = option(True, "Read and write captions in lower case.", "Text")
    hidden: int = option(128, "Units in each layer.", "Model")
    encoder: str = option(
        "conv",
        "What reads the picture: conv, or a network of another library, as torchvision:resnet18, "
        "timm:resnet18.",
        "Model",
    )
    pretrained: bool = option(True, "Such a network begins with its library's weights.", "Model")
    freeze: bool = option(False, "Such a network keeps its weights.", "Model")
    features: int = option(64, "conv: numbers that it says of each place.", "Model")
    grid: int | None = option(
        None,
        "conv: places on a side, at most. [dim]default: 4 for pictures up to 32 x 32, else 8[/]",
        "Model",
    )
    attention: str = option("additive", f"One of {', '.join(ATTENTIONS)}.", "Model")
    input_feeding: bool = option(
        False, "What was attended to enters the next step too; slower.", "Model"
    )
    feed_context: bool = option(
        False, "Without attention: the picture's vector enters every step.", "Model"
    )
    tie: bool = option(False, "One matrix for the embedding and the softmax.", "Model")
    label_smoothing: float = option(
        0.0, "Share of the truth that goes to all units alike.", "Regularisers"
    )
    drop_features: float = option(0.0, "conv: dropout of whole channels.", "Regularisers")
    shift: float = option(
        0.0, "Training moves a picture by at most so much of its side, as 0.1.", "Regularisers"
    )
    zoom: float = option(
        0.0, "Training enlarges or shrinks a picture by at most so much.", "Regularisers"
    )
    jitter: float = option(
        0.0, "Training changes brightness, contrast and colour by at most so much.", "Regularisers"
    )
    flip: bool = option(
        False, "Training mirrors half of the pictures: not where captions say left and right.",
        "Regularisers",
    )  # fmt: skip
    beams: int = option(
        5, "Beams for the scores at the end, and of elman predict where it says none.", "Decoding"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(
            beams=self.beams, features=self.features, grid=8 if self.grid is None else self.grid
        )
        require_probability(label_smoothing=self.label_smoothing, drop_features=self.drop_features)
        for name, valid in (("attention", ATTENTIONS), ("fit", FITS)):
            if getattr(self, name) not in valid:
                raise unknown(name, getattr(self, name), valid)
        if self.encoder != "conv":
            check_name(self.encoder)
        if self.size is not None:
            parse_size(self.size)
        self._check_encoder()
        self.augment  # noqa: B018  (raises where it makes no sense)

    def _check_encoder(self) -> None:
        default = {f.name: f.default for f in fields(self)}
        for name in OF_CONV if is_backbone(self.encoder) else OF_BACKBONE:
            if getattr(self, name) != default[name]:
                kind = "conv" if name in OF_CONV else "torchvision:NAME or timm:NAME"
                raise OptionError(f"{name} is for --encoder {kind}, not for {self.encoder}")
        if is_backbone(self.encoder) and self.drop_features:
            raise OptionError(f"drop_features is for --encoder conv, not for {self.encoder}")

    @property
    def augment(self) -> Augment:
        """What training does to pictures."""
        return Augment(self.shift, self.zoom, self.flip, self.jitter)

    @property
    def lists(self) -> CaptionOptions:
        """How lists of captions are read."""
        return {
            "images": self.images,
            "picture_column": self.picture_column,
            "caption_column": self.caption_column,
            "skip_bad": self.skip_bad,
            **self.table,
        }
