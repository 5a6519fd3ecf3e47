"""`elman train music`: the next frame of a piano roll from those before it."""

from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from elman.cells import Cell
from elman.data.core.batch import Batch
from elman.data.core.records import RecordSource, split
from elman.data.music.midi import KEYS
from elman.data.music.rolls import Piece, parts_of
from elman.data.text.corpus import ProgressCallback
from elman.models.common.loss import Loss
from elman.models.text.tagger import Tagger
from elman.tasks.base.example_task import ExampleTask
from elman.tasks.music.options import MusicOptions
from elman.tasks.music.predictor import MusicPredictor
from elman.tasks.music.processor import MusicProcessor
from elman.train.custom_cell import cell_class


class Music(ExampleTask[MusicOptions]):
    """Piano rolls; the target of frame t is frame t + 1."""

    name = "music"
    title = "a model of music"
    help = """Train a model of polyphonic music, which writes MIDI files.

    [bold]elman train music[/]                            scales, arpeggios and canons, made
    [bold]elman train music chorales/[/]                  a folder of MIDI files
    [bold]elman train music JSB_Chorales.mat[/]           piano rolls, with parts of their own
    [bold]elman train music chorales/ --transpose 5 --steps-per-beat 2[/]
    """
    files_help = (
        "MIDI files and folders of them; piano rolls as .npz or .mat. "
        "[dim]default: music made by the program[/]"
    )
    options_type = MusicOptions
    processor_type = MusicProcessor
    processor: MusicProcessor
    predictor_type = MusicPredictor
    unit = "frame"

    # From files to a model

    @classmethod
    def check(cls, options: MusicOptions, files: list[str]) -> None:
        super().check(options, files)
        _model(options, cell_class(options.cell))

    def sources(self) -> dict[str, RecordSource[Piece]]:
        """Parts that a file is divided into are taken as they are."""
        o, files, read = self.options, self.processor.files, self.processor.read_part
        parts = set.intersection(*map(parts_of, files)) if files else {"train", "test"}
        sources = {"train": read(files, "train" if parts else None)}
        for part, given in (("valid", o.valid), ("test", o.test)):
            if given:
                chosen = part if all(part in parts_of(file) for file in given) else None
                sources[part] = read(given, chosen)
            elif part in parts:
                sources[part] = read(files, part)
            elif part == "valid":
                sources["train"], sources[part] = split(sources["train"], o.valid_fraction, o.seed)
        return sources

    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        return super().prepare(report) | self.processor.fit_encoded()

    def build(self, cell: type[Cell]) -> Tagger:
        return _model(self.options, cell)

    def summary(self) -> str:
        return f"{super().summary()}, {self.processor.steps_per_beat} frames a beat"

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        t = batch.tensors
        x, tags = moved(t["x"], t["tags"], self.options.transpose)
        return model.loss(x, t["x_lengths"], tags)

    def show(self, scores: dict[str, float]) -> str:
        hidden = ("precision", "recall")
        return super().show({k: v for k, v in scores.items() if k not in hidden})

    # The end

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained, folder = self.load(cell), self.run.folder
        examples = self.final_scores(trained, console)
        wanted = int(np.argsort(examples.sizes("x"), kind="stable")[len(examples) // 2])
        row = examples[wanted]
        roll = np.concatenate((np.asarray(row["x"])[:1], np.asarray(row["tags"])))
        [sample] = trained.generate(length=len(roll), seed=self.options.seed)
        trained.draw(roll, sample, folder / "piano-roll.png")
        trained.save(iter([sample]), folder / "sample.mid")
        uses = ["sample RUN --out piece.mid"]
        self.point_to(console, "piano-roll.png", "sample.mid", uses=uses)


def moved(x: Tensor, tags: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Frames x and the next ones [T, B, 88], each piece by -most ... most semitones, as far as it
    stays on the keys."""
    if not most:
        return x, tags
    keys = torch.arange(KEYS, device=x.device)
    sounds = (x.amax(0) + tags.amax(0)) > 0
    low = torch.where(sounds, keys, KEYS).amin(-1).clamp(max=most)
    high = (KEYS - 1 - torch.where(sounds, keys, -1).amax(-1)).clamp(max=most)
    # A random number for each piece, whatever its room is, so that a step draws always as many.
    shift = (torch.rand(low.shape, device=x.device) * (low + high + 1)).long() - low
    index = ((keys - shift[:, None]) % KEYS).expand_as(x)
    return x.gather(-1, index), tags.gather(-1, index)


def _model(options: MusicOptions, cell: type[Cell]) -> Tagger:
    return Tagger(
        KEYS,
        multi_label=True,
        bidirectional=False,
        input_size=KEYS,
        hidden_size=options.hidden,
        num_layers=options.layers,
        **options.stack(cell),
    )
