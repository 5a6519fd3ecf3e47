"""`elman train caption`: a picture in, a sentence out."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Shown
from torch import Tensor, nn

from elman.cells import Cell
from elman.data.core.batch import Batch
from elman.data.core.examples import Examples
from elman.data.core.files import write_text
from elman.data.core.records import RecordSource, SkipLog
from elman.data.images.arrays import Pixels, fit_image, image_size, parse_size, readable_image
from elman.data.images.captions import CaptionedPicture, captioned_pictures
from elman.data.images.nearest import nearest_pictures
from elman.data.synthetic.scenes import SIDE, scenes
from elman.data.text.corpus import ProgressCallback
from elman.data.text.encoder import TextEncoder
from elman.models.common.loss import Loss
from elman.models.images.backbones import backbone, is_backbone
from elman.models.images.captioner import Captioner
from elman.models.images.picture_encoder import PictureEncoder
from elman.tasks.base.attention import draw_attention
from elman.tasks.base.examples import ExampleTask, load_best
from elman.tasks.base.text_scores import caption_scores
from elman.tasks.caption.options import LARGEST, CaptioningOptions
from elman.tasks.caption.predictor import CaptionPredictor
from elman.tasks.caption.sheet import draw_captions
from elman.train.checkpoint import checkpoints_in
from elman.train.custom_cell import cell_class

#: Scenes of the embedded data.
SCENES = 3_000
#: Pictures of several sizes are read at this one.
USUAL = 64


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """A picture that is no file, and what is said of it."""

    picture: Pixels
    captions: tuple[str, ...]
    where: str


Captioned = CaptionedPicture | DrawnPicture


class Captioning(ExampleTask[CaptioningOptions, Captioned]):
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
    unit = "token"
    bucket_by = None
    given = "picture.png"

    # From files to a model

    @classmethod
    def check(cls, options: CaptioningOptions, files: list[str]) -> None:
        super().check(options, files)
        size = parse_size(options.size) if options.size else (LARGEST, LARGEST)
        encoder, how = _encoder(options, size, options.pretrained)
        _captioner(options, encoder, 3, 1, 2, cell_class(options.cell), **how)

    def read(self, files: list[str]) -> RecordSource[Captioned]:
        if files:
            return captioned_pictures(files, **self.options.lists)  # type: ignore[return-value]

        def made(skipped: SkipLog) -> Iterator[Captioned]:
            for number, (picture, captions) in enumerate(scenes(SCENES, seed=1)):
                yield DrawnPicture(picture, captions, f"scene {number + 1}")

        return RecordSource(f"{SCENES:,} drawn scenes", made)

    def learn(self, train: RecordSource[Captioned], report: ProgressCallback) -> dict[str, Any]:
        o = self.options
        sizes: Counter[tuple[int, int]] = Counter()
        captions: Counter[str] = Counter()
        for number, record in enumerate(train):
            captions.update(self._cased(text) for text in record.captions)
            size = _size(record)
            sizes.update([] if size is None else [size])
            if number % 256 == 0:
                report("looking at the pictures", number, 0)
        units = TextEncoder.fit(
            o.tokenizer,
            (text for text, count in captions.items() for _ in range(count)),
            vocab_size=o.vocab_size or (4096 if o.tokenizer == "bpe" else None),
            min_count=o.least_count,
            bpe_sample=o.bpe_sample,
            lower_case=o.lower_case,
            specials=["start", "end"],
        )
        units.save(self._units_file)
        likely = min(captions.items(), key=lambda item: (-item[1], item[0]), default=("", 0))[0]
        return {"size": self._chosen(sizes), "sizes": len(sizes), "most_frequent": likely}

    def _chosen(self, sizes: Counter[tuple[int, int]]) -> list[int]:
        """(H, W) that pictures are read at."""
        if self.options.size is not None:
            return list(parse_size(self.options.size))
        if is_backbone(self.options.encoder):
            return [LARGEST, LARGEST]
        alike = len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST
        return list(next(iter(sizes))) if alike else [USUAL, USUAL]

    @property
    def _units_file(self) -> Path:
        return self.run.folder / "units.json"

    @property
    def units(self) -> TextEncoder:
        """The units that captions are written in."""
        return self.once("units", lambda: TextEncoder.load(self._units_file))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the pictures that the model reads."""
        return self.fact("size", tuple[int, int])

    def encode(
        self, record: Captioned, source: RecordSource[Captioned]
    ) -> Mapping[str, Any] | None:
        picture = self.picture(record, source.skipped)
        if picture is None:
            return None
        ids = [self.cut(self.units.encode(text), record, source) for text in record.captions]
        written = [np.append(one, self.units.end_id) for one in ids if one is not None]
        if not written:
            return None
        # Captions hold no line end.
        texts = "\n".join(record.captions)
        return {"captions": np.concatenate(written), "picture": picture, "texts": texts}

    def picture(self, record: Captioned, skipped: SkipLog) -> Pixels | None:
        """A picture as the model reads it; None where it cannot be read, and that may be."""
        o = self.options
        if isinstance(record, DrawnPicture):
            return fit_image(record.picture, self.size, o.fit)
        return readable_image(record.file, skipped, self.size, skip_bad=o.skip_bad, fit=o.fit)

    def build(self, cell: type[Cell]) -> Captioner:
        # Where weights follow, none are fetched.
        begins = not checkpoints_in(self.run.checkpoints) and not self.run.weights_file.exists()
        o, units = self.options, self.units
        encoder, how = _encoder(o, self.size, o.pretrained and begins)
        return _captioner(o, encoder, units.vocab_size, units.start_id, units.end_id, cell, **how)

    def summary(self) -> str:
        height, width = self.size
        count = self.found["sizes"]
        mixed = f" from {count:,} sizes" if count > 1 else ""
        return (
            f"{super().summary()}, read as {height} x {width}{mixed}, "
            f"{self.units.vocab_size} kinds of unit ({self.options.tokenizer})"
        )

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        t = batch.tensors
        picture = self.options.augment(t["picture"]) if model.training else t["picture"]
        found = captions_of(t["captions"], t["captions_lengths"], self.units.end_id)
        return model.loss(picture, *found)

    def score(
        self, model: Any, examples: Examples, report: ProgressCallback | None = None
    ) -> dict[str, Any]:
        """The loss, and how good captions by beam search are."""
        scores = super().score(model, examples, report)
        trained = CaptionPredictor(self.run, self.options, model, self)
        found: list[str] = []
        for answer in trained.predict(row["picture"] for row in examples):
            found.append(self._cased(answer.text))
            if report is not None:
                report("writing captions", len(found), len(examples))
        return {**scores, **caption_scores(found, self.wanted(examples))}

    def wanted(self, examples: Examples) -> list[list[str]]:
        """All that would be right to say of each."""
        return [self._cased(str(row["texts"])).split("\n") for row in examples]

    def _cased(self, text: str) -> str:
        return text.lower() if self.options.lower_case else text

    def baseline(self, examples: Examples) -> Any:
        """The most frequent caption, and the first one of the nearest picture in training."""
        wanted, train = self.wanted(examples), self.examples("train")
        frequent = [self.found["most_frequent"]] * len(wanted)
        nearest = nearest_pictures(
            [np.asarray(row["picture"]) for row in examples],
            (np.asarray(row["picture"]) for row in train),
        )
        theirs = [self._cased(str(train[i]["texts"])).split("\n")[0] for i in nearest]
        return [
            {"name": "most frequent caption", **caption_scores(frequent, wanted)},
            {"name": "nearest picture's caption", **caption_scores(theirs, wanted)},
        ]

    # The end

    def load(self, cell: type[Cell]) -> CaptionPredictor:
        return CaptionPredictor(self.run, self.options, load_best(self, cell), self)

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained = self.load(cell)
        examples = self.final_scores(trained, console)
        some = [examples[i] for i in range(min(16, len(examples)))]
        pictures = [np.asarray(row["picture"]) for row in some]
        answers = list(trained.predict(pictures))
        written = [self._cased(answer.text) for answer in answers]
        wanted = [self._cased(str(row["texts"])).split("\n") for row in some]
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
        self.point_to(console, *shown)


def captions_of(ids: Tensor, lengths: Tensor, end: int) -> tuple[Tensor, Tensor, Tensor]:
    """All captions of a batch of pictures, one a column.

    ids: [S, B], the captions of each picture one after the other, behind each an end; lengths: [B]
      ->   target: [T, N], target_lengths: [N], rows: [N], whose picture each is
    """
    inside = (torch.arange(len(ids), device=ids.device)[:, None] < lengths).T
    flat, owner = ids.T[inside], inside.nonzero()[:, 0]
    ends = (flat == end).nonzero()[:, 0]
    sizes = torch.diff(ends, prepend=ends.new_tensor([-1]))
    target = nn.utils.rnn.pad_sequence(list(torch.split(flat, sizes.tolist())))[:-1]
    return target, sizes - 1, owner[ends]


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


def _size(record: Captioned) -> tuple[int, int] | None:
    if isinstance(record, DrawnPicture):
        return SIDE, SIDE
    return image_size(record.file)
