"""`elman train music`: the next frame of a piano roll from those before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from elman.cells import Cell
from elman.data.core.batch import Batch
from elman.data.core.examples import Examples
from elman.data.core.files import loaded, write_json
from elman.data.core.records import RecordSource, SkipLog, split
from elman.data.core.typed import as_type
from elman.data.music.midi import KEYS
from elman.data.music.rolls import Piece, parts_of, pieces
from elman.data.synthetic.tunes import tunes
from elman.data.text.corpus import ProgressCallback
from elman.errors import OptionError, require_positive
from elman.models.common.loss import Loss
from elman.models.common.scores import multi_label_counts, multi_label_scores
from elman.models.text.tagger import Tagger
from elman.settings import option
from elman.tasks.base.examples import ExampleTask, load_best
from elman.tasks.base.options import MediaOptions
from elman.tasks.music.predictor import MusicPredictor
from elman.train.custom_cell import cell_argument, cell_class

#: Pieces made by the program, and frames of a beat in them.
MADE = {"train": 600, "test": 60}
MADE_STEPS = 2


@dataclass(frozen=True)
class MusicOptions(MediaOptions):
    """What `elman train music` takes beside the files."""

    epochs: int | None = option(
        None, "Passes over the training part. [dim]default: 40, or none with --minutes[/]",
        "Length",
    )  # fmt: skip
    steps_per_beat: int | None = option(
        None, "Frames of a beat, to which MIDI is rounded. [dim]default: 4; made pieces 2[/]",
        "Data",
    )  # fmt: skip
    tempo: float = option(120.0, "Beats a minute of the MIDI files that it writes.", "Data")
    batch_size: int = option(8, "Pieces side by side.", "Optimisation")
    learning_rate: float | None = option(
        None, "The highest rate. [dim]default: 0.008 for adamw, 1.0 for sgd[/]", "Optimisation"
    )
    hidden: int = option(128, "Units in each layer.", "Model")
    dropout: float = option(0.2, "On frames, between layers, on outputs.", "Regularisers")
    transpose: int = option(
        0, "In training, move each piece by up to so many semitones up or down.", "Regularisers"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps_per_beat is not None:
            require_positive(steps_per_beat=self.steps_per_beat)
        if not 4 <= self.tempo <= 1000:
            raise OptionError(f"tempo must lie in 4 ... 1000 beats a minute, got {self.tempo}")
        if not 0 <= self.transpose < KEYS:
            raise OptionError(f"transpose must lie in 0 ... {KEYS - 1}, got {self.transpose}")

    @property
    def rate(self) -> float:
        given = self.learning_rate is not None or self.optimizer != "adamw"
        return super().rate if given else 0.008

    @property
    def passes(self) -> int | None:
        bounded = not self.epochs == self.minutes == self.steps == None  # noqa: E711
        return self.epochs if bounded else 40


class Music(ExampleTask[MusicOptions, Piece]):
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
    unit = "frame"

    # From files to a model

    @classmethod
    def check(cls, options: MusicOptions, files: list[str]) -> None:
        super().check(options, files)
        _model(options, cell_class(options.cell))

    def read(self, files: list[str]) -> RecordSource[Piece]:
        """What is asked about a trained model: of files with parts the test part."""
        divided = bool(files) and all("test" in parts_of(file) for file in files)
        return self._part(files, "test" if divided else None)

    def _part(self, files: list[str], part: str | None) -> RecordSource[Piece]:
        if not files:
            return _made(part or "test")
        steps = self.steps_per_beat
        return pieces(files, part, steps_per_beat=steps, skip_bad=self.options.skip_bad)

    @property
    def steps_per_beat(self) -> int:
        """Frames of a beat."""
        return self.options.steps_per_beat or (4 if self.files else MADE_STEPS)

    def sources(self) -> dict[str, RecordSource[Piece]]:
        """Parts that a file is divided into are taken as they are."""
        o, files = self.options, self.files
        parts = set.intersection(*map(parts_of, files)) if files else {"train", "test"}
        found = {"train": self._part(files, "train" if parts else None)}
        for part, given in (("valid", o.valid), ("test", o.test)):
            if given:
                chosen = part if all(part in parts_of(file) for file in given) else None
                found[part] = self._part(given, chosen)
            elif part in parts:
                found[part] = self._part(files, part)
            elif part == "valid":
                found["train"], found[part] = split(found["train"], o.valid_fraction, o.seed)
        return found

    def learn(self, train: RecordSource[Piece], report: ProgressCallback) -> dict[str, Any]:
        return {}

    def encode(self, record: Piece, source: RecordSource[Piece]) -> Mapping[str, Any] | None:
        roll = self.cut(record.roll.astype(np.float32), record, source)
        if roll is not None and len(roll) < 2:
            source.skipped.add("piece of one frame, which has no next one", record.where)
            roll = None
        return None if roll is None else {"x": roll[:-1], "tags": roll[1:]}

    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        found = super().prepare(report)
        train = self.examples("train")
        sums, openings = np.zeros(KEYS), []
        for row in train:
            sums += np.asarray(row["tags"]).sum(0)
            openings.append(np.flatnonzero(np.asarray(row["x"])[0]).tolist())
        sizes = train.sizes("x")
        share = (sums + 1) / (sizes.sum() + 2)
        write_json(self._known, {"share": share.tolist(), "openings": openings})
        return {**found, "length": int(np.median(sizes)) + 1}

    @property
    def _known(self) -> Any:
        return self.run.folder / "keys.json"

    @property
    def known(self) -> dict[str, Any]:
        """Of the training part: how often each key sounds, and the first frame of each piece."""
        return loaded(self._known, "keys", _keys)

    def build(self, cell: type[Cell]) -> Tagger:
        return _model(self.options, cell)

    def summary(self) -> str:
        return f"{super().summary()}, {self.steps_per_beat} frames a beat"

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        t = batch.tensors
        x, tags = moved(t["x"], t["tags"], self.options.transpose)
        return model.loss(x, t["x_lengths"], tags)

    def measure(self, model: Any, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        t = batch.tensors
        lengths, tags = t["x_lengths"], t["tags"]
        loss = model.loss(t["x"], lengths, tags)
        on, _ = model.decode(t["x"], lengths)
        counts = multi_label_counts(on.float(), tags, lengths)
        return {"total": float(loss.total), "count": float(loss.count), **counts}, None

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        return {**super().scores(sums), **multi_label_scores(sums)}

    def show(self, scores: dict[str, float]) -> str:
        hidden = ("precision", "recall")
        return super().show({k: v for k, v in scores.items() if k not in hidden})

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """Keys that sound as often as in training, whatever sounded before; of what sounds, the
        frame before once more."""
        share = np.array(self.known["share"])
        on, off = np.log(share), np.log1p(-share)
        nats, frames = 0.0, 0
        sums: dict[str, float] = {}
        for row in examples:
            x, tags = np.array(row["x"]), np.array(row["tags"])
            nats -= float((tags @ on + (1 - tags) @ off).sum())
            frames += len(tags)
            counts = multi_label_counts(torch.from_numpy(x), torch.from_numpy(tags))
            for name, value in counts.items():
                sums[name] = sums.get(name, 0.0) + value
        name = "independent keys; else the last frame again"
        return {"name": name, "loss_nats": nats / frames, **multi_label_scores(sums)}

    # The end

    def load(self, cell: type[Cell]) -> MusicPredictor:
        return MusicPredictor(self.run, self.options, load_best(self, cell), self)

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained, folder = self.load(cell), self.run.folder
        examples = self.final_scores(trained, console)
        wanted = int(np.argsort(examples.sizes("x"), kind="stable")[len(examples) // 2])
        row = examples[wanted]
        roll = np.concatenate((np.asarray(row["x"])[:1], np.asarray(row["tags"])))
        [sample] = trained.generate(length=len(roll), seed=self.options.seed)
        trained.draw(roll, sample, folder / "piano-roll.png")
        trained.save(iter([sample]), folder / "sample.mid")
        use = f"{folder}{cell_argument(self.options.cell)}"
        seen = ", ".join(str(folder / n) for n in ("curves.png", "piano-roll.png", "sample.mid"))
        for line in (f"see:    {seen}", f"more:   elman sample {use} --out piece.mid"):
            console.print(line, highlight=False, markup=False)


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


def _made(part: str) -> RecordSource[Piece]:
    def read(skipped: SkipLog) -> Any:
        seed = list(MADE).index(part)
        for number, (name, roll) in enumerate(tunes(MADE[part], seed)):
            yield Piece(roll, f"made {name} {number + 1}")

    return RecordSource("scales, arpeggios and canons, made", read)


def _keys(value: Any) -> dict[str, Any]:
    share = as_type(list[float], value["share"], "share")
    openings = as_type(list[list[int]], value["openings"], "openings")
    if len(share) != KEYS or not all(0 < p < 1 for p in share):
        raise ValueError(f"share must be {KEYS} probabilities")
    if not openings or not all(0 <= key < KEYS for opening in openings for key in opening):
        raise ValueError(f"openings must be keys of 0 ... {KEYS - 1}")
    return {"share": share, "openings": openings}


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
