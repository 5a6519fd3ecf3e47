"""`elman train pixels`: pictures, value by value."""

from typing import Any

import numpy as np
from rich.console import Console

from elman.cells import Cell
from elman.data.images.arrays import write_sheet
from elman.data.text.corpus import ProgressCallback
from elman.models.images.pixels import PixelModel
from elman.tasks.base.example_task import ExampleTask
from elman.tasks.pixels.options import PixelOptions
from elman.tasks.pixels.predictor import PixelPredictor
from elman.tasks.pixels.processor import PixelProcessor
from elman.train.custom_cell import cell_class


class PixelTask(ExampleTask[PixelOptions]):
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
    processor_type = PixelProcessor
    processor: PixelProcessor
    predictor_type = PixelPredictor

    # From files to a model

    @classmethod
    def check(cls, options: PixelOptions, files: list[str]) -> None:
        super().check(options, files)
        _model(options, (1, 1, options.channels), cell_class(options.cell))

    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        metadata = super().prepare(report)
        self.processor.fit_encoded()
        return metadata

    def build(self, cell: type[Cell]) -> PixelModel:
        self.processor.independent  # noqa: B018  (raises where the shape is not that of the training)
        return _model(self.options, self.processor.shape, cell)

    def summary(self) -> str:
        H, W, _ = self.processor.shape
        kind = "colour" if self.options.colour else "grey"
        return f"{super().summary()}, {H}x{W} pixels, {self.options.levels} levels of {kind}"

    # The end

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained, folder, seed = self.load(cell), self.run.folder, self.options.seed
        examples = self.final_scores(trained, console)
        drawn = list(trained.generate(50, seed=seed))
        write_sheet(folder / "samples.png", [drawn[i : i + 10] for i in range(0, 50, 10)])
        given = [np.asarray(examples[i]["x"]) for i in range(min(10, len(examples)))]
        half = self.processor.shape[0] // 2
        rows = [trained.complete(given, half, seed=seed + i) for i in range(4)]
        shown = [self.processor.picture_of(x) for x in given]
        begun = [trained.begun(x, half) for x in given]
        write_sheet(folder / "completions.png", [shown, begun, *rows])
        uses = [
            "sample RUN --count 100 --out sheet.png",
            "sample RUN --prompt PICTURE --out completed.png",
        ]
        self.point_to(console, "samples.png", "completions.png", uses=uses)


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
