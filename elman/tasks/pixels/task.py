"""`elman train pixels`: pictures, value by value."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from elman.cells import Cell
from elman.data.core.batch import Batch
from elman.data.core.examples import Examples
from elman.data.core.files import RESTORE
from elman.data.core.records import RecordSource
from elman.data.embedded import embedded_file
from elman.data.images.arrays import FITS, parse_size, reshaped, write_sheet
from elman.data.images.pictures import (
    Picture,
    from_levels,
    grey_digits,
    pictures,
    pixel_order,
    to_levels,
)
from elman.data.text.corpus import ProgressCallback
from elman.errors import DataError, OptionError, RunError, unknown
from elman.models.images.pixels import PixelModel
from elman.settings import option
from elman.tasks.base.examples import ExampleTask, load_best
from elman.tasks.base.independent import Independent
from elman.tasks.base.options import MediaOptions
from elman.tasks.pixels.predictor import PixelPredictor
from elman.train.custom_cell import cell_argument, cell_class

#: The longer side of pictures where --size says nothing, at most.
LONGEST = 32


@dataclass(frozen=True)
class PixelOptions(MediaOptions):
    """What `elman train pixels` takes beside the files."""

    epochs: int | None = option(
        None, "Passes over the training part. [dim]default: 20, or none with --minutes[/]",
        "Length",
    )  # fmt: skip
    size: str | None = option(
        None, f"Height and width, as 28 or 24x32. [dim]default: the first picture's, at most "
        f"{LONGEST}[/]", "Data",
    )  # fmt: skip
    fit: str = option("crop", f"How others come to that size: {', '.join(FITS)}.", "Data")
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
    def passes(self) -> int | None:
        bounded = not self.epochs == self.minutes == self.steps == None  # noqa: E711
        return self.epochs if bounded else 20

    @property
    def channels(self) -> int:
        """Values of a pixel."""
        return 3 if self.colour else 1


class PixelTask(ExampleTask[PixelOptions, Picture]):
    """Pictures, each value given those before it."""

    name = "pixels"
    title = "a model of pictures"
    unit = "picture"
    help = """Train a model of pictures: the likelihood of each pixel given those before it.

    [bold]elman train pixels[/]                                  8x8 digits in 16 grey levels
    [bold]elman train pixels train-images-idx3-ubyte.gz --levels 2[/]
    [bold]elman train pixels photos/ --size 24x32 --colour --levels 256[/]
    [bold]elman train pixels photos/ --permute 1[/]              in an order drawn once
    """
    files_help = "Folders of pictures, picture files, idx files. [dim]default: 8x8 digits[/]"
    options_type = PixelOptions

    # From files to a model

    @classmethod
    def check(cls, options: PixelOptions, files: list[str]) -> None:
        super().check(options, files)
        _model(options, (1, 1, options.channels), cell_class(options.cell))

    def read(self, files: list[str]) -> RecordSource[Picture]:
        if not files:
            return grey_digits(embedded_file("digits.csv.gz"))
        o = self.options
        return pictures(files, size=o.size, colour=o.colour, fit=o.fit, skip_bad=o.skip_bad)

    def learn(self, train: RecordSource[Picture], report: ProgressCallback) -> dict[str, Any]:
        first = next(iter(train), None)
        if first is None:
            raise DataError(f"{train.about}: holds no picture; {train.skipped}")
        H, W = (
            first.pixels.shape[:2] if self.options.size is None else parse_size(self.options.size)
        )
        scale = 1.0 if self.options.size is not None else min(1.0, LONGEST / max(H, W))
        return {
            "shape": [max(1, round(H * scale)), max(1, round(W * scale)), self.options.channels]
        }

    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        found = super().prepare(report)
        rows = (np.asarray(row["x"]) for row in self.examples("train"))
        size = math.prod(self.shape)
        Independent.of_levels(rows, size, self.options.levels).save(
            self.run.folder / "baseline.json"
        )
        return found

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a picture."""
        return self.fact("shape", tuple[int, int, int])

    def encode(self, record: Picture, source: RecordSource[Picture]) -> Mapping[str, Any] | None:
        H, W, _ = self.shape
        if record.pixels.shape[:2] != (H, W):
            source.skipped.add(f"picture brought to {H}x{W} ({self.options.fit})", record.where)
        return {"x": self.levels_of(record.pixels)}

    def levels_of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture of any size as the model reads it: [D]."""
        o, (H, W, _) = self.options, self.shape
        fitted = reshaped(pixels, (H, W), mode="colour" if o.colour else "grey", fit=o.fit)
        return to_levels(fitted, o.levels, o.draw_levels).ravel()

    def picture_of(self, x: NDArray[np.integer]) -> NDArray[np.uint8]:
        """[D] levels as a picture [H, W, C]."""
        return from_levels(x, self.options.levels).reshape(self.shape)

    def build(self, cell: type[Cell]) -> PixelModel:
        return _model(self.options, self.shape, cell)

    def summary(self) -> str:
        H, W, _ = self.shape
        kind = "colour" if self.options.colour else "grey"
        return f"{super().summary()}, {H}x{W} pixels, {self.options.levels} levels of {kind}"

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Any:
        return model.loss(batch.tensors["x"])

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        found = super().scores(sums)
        return {**found, "bits_per_dim": self.bits(found["loss_nats"])}

    def bits(self, nats: float) -> float:
        """Nats of a picture as bits of each of its values."""
        return nats / (math.prod(self.shape) * math.log(2))

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """Pixels that know nothing of each other."""
        model = self.independent
        nats = sum(model.nats(np.asarray(row["x"])) for row in examples) / len(examples)
        return {"name": "independent pixels", "loss_nats": nats, "bits_per_dim": self.bits(nats)}

    @property
    def independent(self) -> Independent:
        """The distribution of each pixel by itself."""
        return self.once("baseline", self._independent)

    def _independent(self) -> Independent:
        path, wanted = (
            self.run.folder / "baseline.json",
            (math.prod(self.shape), self.options.levels),
        )
        found = Independent.load(path)
        if found.first.shape != wanted:
            raise RunError(
                f"{path}: is of {list(found.first.shape)} pixels and levels, the model of "
                f"{list(wanted)}; {RESTORE}"
            )
        return found

    # The end

    def load(self, cell: type[Cell]) -> PixelPredictor:
        self.independent  # noqa: B018  (raises where the shape is not that of the training)
        return PixelPredictor(self.run, self.options, load_best(self, cell), self)

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained, folder, seed = self.load(cell), self.run.folder, self.options.seed
        examples = self.final_scores(trained, console)
        drawn = list(trained.generate(50, seed=seed))
        write_sheet(folder / "samples.png", [drawn[i : i + 10] for i in range(0, 50, 10)])
        given = [np.asarray(examples[i]["x"]) for i in range(min(10, len(examples)))]
        half = self.shape[0] // 2
        rows = [trained.complete(given, half, seed=seed + i) for i in range(4)]
        shown = [self.picture_of(x) for x in given]
        begun = [trained.begun(x, half) for x in given]
        write_sheet(folder / "completions.png", [shown, begun, *rows])
        use = f"{folder}{cell_argument(self.options.cell)}"
        shown_files = ", ".join(
            str(folder / name) for name in ("curves.png", "samples.png", "completions.png")
        )
        for line in (
            f"see:    {shown_files}",
            f"more:   elman sample {use} --count 100 --out sheet.png",
            f"        elman sample {use} --prompt PICTURE --out completed.png",
        ):
            console.print(line, highlight=False, markup=False)


def _model(options: PixelOptions, shape: tuple[int, int, int], cell: type[Cell]) -> PixelModel:
    return PixelModel(
        shape,
        options.levels,
        context=options.context,
        permute=options.permute,
        embedding_size=options.embedding,
        hidden_size=options.hidden,
        num_layers=options.layers,
        **options.stack(cell),
    )
