"""`elman train caption`: a picture in, a sentence out."""

from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Shown
from torch import nn

from elman.cells import Cell
from elman.data.core.batch import Batch
from elman.data.core.files import write_text
from elman.data.images.arrays import parse_size
from elman.models.common.loss import Loss
from elman.models.images.backbones import backbone, is_backbone
from elman.models.images.captioner import Captioner
from elman.models.images.picture_encoder import PictureEncoder
from elman.tasks.base.attention import draw_attention
from elman.tasks.base.example_task import ExampleTask
from elman.tasks.caption.options import LARGEST, CaptioningOptions
from elman.tasks.caption.predictor import CaptionPredictor
from elman.tasks.caption.processor import CaptionProcessor
from elman.tasks.caption.sheet import draw_captions
from elman.train.checkpoint import checkpoints_in
from elman.train.custom_cell import cell_class


class Captioning(ExampleTask[CaptioningOptions]):
    """Pictures, and what is said of them: an example is a picture with all its captions."""

    name = "caption"
    title = "a captioner"
    help = """Train a model that looks at a picture and says in a sentence what is on it.

    [bold]elman train caption[/]                              drawn scenes
    [bold]elman train caption pictures/[/]                    with captions.csv in the folder
    [bold]elman train caption captions.tsv --images pictures/ --shift 0.1[/]
    [bold]elman train caption captions_train2017.json --images train2017 --size 96[/]     COCO
    [bold]elman train caption Flickr8k.token.txt --images Flicker8k_Dataset \\
        --encoder torchvision:resnet18 --freeze[/]
    """
    files_help = (
        "A folder; CSV, TSV, JSONL, parquet with files and captions; COCO's JSON; Flickr8k's "
        "list. [dim]default: drawn scenes[/]"
    )
    options_type = CaptioningOptions
    processor_type = CaptionProcessor
    processor: CaptionProcessor
    predictor_type = CaptionPredictor
    unit = "token"

    # From files to a model

    @classmethod
    def check(cls, options: CaptioningOptions, files: list[str]) -> None:
        super().check(options, files)
        size = parse_size(options.size) if options.size else (LARGEST, LARGEST)
        encoder, how = _encoder(options, size, options.pretrained)
        _captioner(options, encoder, 3, 1, 2, cell_class(options.cell), **how)

    def build(self, cell: type[Cell]) -> Captioner:
        # Where weights follow, none are fetched.
        begins = not checkpoints_in(self.run.checkpoints) and not self.run.weights_file.exists()
        o, units = self.options, self.processor.units
        encoder, how = _encoder(o, self.processor.size, o.pretrained and begins)
        return _captioner(o, encoder, units.vocab_size, units.start_id, units.end_id, cell, **how)

    def summary(self) -> str:
        height, width = self.processor.size
        count = self.processor.fact("sizes", int)
        mixed = f" from {count:,} sizes" if count > 1 else ""
        return (
            f"{super().summary()}, read as {height} x {width}{mixed}, "
            f"{self.processor.units.vocab_size} kinds of unit ({self.options.tokenizer})"
        )

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        if model.training:
            picture = self.options.augment(batch.tensors["picture"])
            batch = batch._replace(tensors={**batch.tensors, "picture": picture})
        return super().loss(model, batch, state, progress)

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained = self.load(cell)
        examples = self.final_scores(trained, console)
        some = [examples[i] for i in range(min(16, len(examples)))]
        pictures = [np.asarray(row["picture"]) for row in some]
        answers = list(trained.predict(pictures))
        written = [self.processor.cased(answer.text) for answer in answers]
        wanted = [self.processor.cased(str(row["texts"])).split("\n") for row in some]
        table = Shown("written", "wanted")
        for ours, theirs in list(zip(written, wanted, strict=True))[:8]:
            table.add_row(escape(ours), escape(theirs[0]))
        console.print(table)
        folder = self.run.folder
        lines = ("\n".join([w, *t]) for w, t in zip(written, wanted, strict=True))
        write_text(folder / "samples.txt", "\n\n".join(lines) + "\n")
        draw_captions(folder / "captions.png", list(zip(pictures, written, wanted, strict=True)))
        shown = ["captions.png", "samples.txt"]
        if answers[0].attention is not None:
            draw_attention(folder / "attention.png", answers[0])
            shown.append("attention.png")
        self.point_to(console, *shown, uses=["predict RUN picture.png"])


def _encoder(
    options: CaptioningOptions, size: tuple[int, int], pretrained: bool
) -> tuple[nn.Module, dict[str, Any]]:
    """What reads pictures of this size, and what a `Captioner` is told of it."""
    o = options
    if not is_backbone(o.encoder):
        grid = o.grid or (4 if max(size) <= 32 else 8)
        return PictureEncoder(size, o.features, grid=grid, dropout=o.drop_features), {}
    module, feature_size, mean, std = backbone(o.encoder, size, pretrained=pretrained)
    return module, {"feature_size": feature_size, "mean": mean, "std": std}


def _captioner(
    options: CaptioningOptions,
    encoder: nn.Module,
    vocab_size: int,
    start: int,
    end: int,
    cell: type[Cell],
    **encoding: Any,
) -> Captioner:
    return Captioner(
        vocab_size,
        encoder,
        start=start,
        end=end,
        frozen=options.freeze,
        embedding_size=options.embedding,
        hidden_size=options.hidden,
        num_layers=options.layers,
        attention=None if options.attention == "none" else options.attention,
        input_feeding=options.input_feeding,
        feed_context=options.feed_context,
        tie_weights=options.tie,
        label_smoothing=options.label_smoothing,
        **encoding,
        **options.stack(cell),
    )
