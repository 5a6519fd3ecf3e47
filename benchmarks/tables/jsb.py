"""JSB chorales: which of 88 keys sound in the next frame, given all frames up to now.

    python benchmarks/tables/jsb.py --data ../shared/data

The loss of a frame is the binary negative log likelihood, in nats, summed over the 88 keys; the
number is its mean over frames 2 ... T of all pieces, as Bai et al. 2018 count: the first frame of a
piece is read and not predicted. Trained as every elman task is: the validation pieces choose the
weights, the test pieces are read once. The baseline takes keys as independent of each other and of
time. Needs scipy to read the .mat file.
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import Options, Row, Training, parsed, report, tested
from numpy.typing import NDArray
from rich.console import Console
from scipy.io import loadmat

from elman.cells import Cell
from elman.data.batch import Batch
from elman.data.corpus import Report
from elman.data.examples import Examples
from elman.data.files import read_json
from elman.data.source import Skipped, Source
from elman.models import Tagger
from elman.models.loss import Loss
from elman.tasks.examples import ExampleOptions, ExampleTask, TrainedOnExamples, load_best
from elman.train import training

KEYS = 88
RECIPE: dict[str, Any] = {
    "hidden": 200,
    "dropout": 0.3,
    "learning_rate": 0.004,
    "batch_size": 8,
    "epochs": 120,
    "patience": 30,
}
#: What differs from it: without gates a lower rate.
OWN: dict[str, dict[str, Any]] = {"elman": {"dropout": 0.2, "learning_rate": 0.002}}
#: Cell, published by Bai et al. 2018, Table 1.
CELLS = (("lstm", "8.45"), ("gru", "8.43"), ("elman", "8.91"))

Roll = NDArray[np.float32]


class NextFrame(ExampleTask[ExampleOptions, Roll]):
    """Piano rolls; the target of frame t is frame t + 1."""

    name = "jsb"
    title = "a model of chorales"
    help = files_help = ""
    options_type = ExampleOptions
    unit = "frame"

    # From the file to a model

    def read(self, files: list[str]) -> Source[Roll]:
        return self._part(files, "train")

    def _part(self, files: list[str], part: str) -> Source[Roll]:
        def pieces(skipped: Skipped) -> Iterator[Roll]:
            for piece in loadmat(files[0])[f"{part}data"][0]:
                yield piece.astype(np.float32)

        return Source(f"{files[0]}: {part}data", pieces)

    def sources(self) -> dict[str, Source[Roll]]:
        return {part: self._part(self.files, part) for part in ("train", "valid", "test")}

    def learn(self, train: Source[Roll], report: Report) -> dict[str, Any]:
        return {}

    def encode(self, record: Roll, source: Source[Roll]) -> Mapping[str, Any]:
        return {"x": record[:-1], "tags": record[1:]}

    def build(self, cell: type[Cell]) -> Tagger:
        o = self.options
        return Tagger(
            KEYS,
            multi_label=True,
            bidirectional=False,
            input_size=KEYS,
            hidden_size=o.hidden,
            num_layers=o.layers,
            **o.stack(cell),
        )

    # What it is judged by

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        t = batch.tensors
        return model.loss(t["x"], t["x_lengths"], t["tags"])

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """Each key sounds as often as in the training part, whatever sounded before."""
        seen, asked = (
            torch.from_numpy(np.concatenate([np.array(row["tags"]) for row in part]))
            for part in (self.examples("train"), examples)
        )
        share = (seen.sum(0) + 1) / (len(seen) + 2)
        nats = F.binary_cross_entropy(share.expand_as(asked), asked, reduction="sum") / len(asked)
        return {"name": "independent keys", "loss_nats": float(nats)}

    # The end

    def load(self, cell: type[Cell]) -> TrainedOnExamples:
        return TrainedOnExamples(self.run, self.options, load_best(self, cell), self)

    def finish(self, cell: type[Cell], console: Console) -> None:
        self.final_scores(self.load(cell), console)


def trained(options: Options, cell: str, seed: int) -> Training:
    """Train one cell with one seed, in this process."""
    given = {**RECIPE, **OWN.get(cell, {})}
    given["epochs"] = options.epochs or (1 if options.quick else given["epochs"])
    chosen = ExampleOptions(
        cell=cell,
        seed=seed,
        threads=options.threads,
        accelerator=options.accelerator,
        **given,
    )
    file = options.data / "jsb" / "JSB_Chorales.mat"
    out: Path = options.work / f"{cell}-seed{seed}"
    begin = time.perf_counter()
    training.train(NextFrame, [str(file)], chosen, out, True, Console(stderr=True, soft_wrap=True))
    seconds = time.perf_counter() - begin
    return Training(out, read_json(out / "scores.json"), seconds)


def main() -> None:
    """Train each cell once for each seed, print the table."""
    options = parsed("jsb", __doc__, only=[cell for cell, _ in CELLS])
    rows, seconds = [], []
    for cell, published in options.chosen(CELLS):
        done = [trained(options, cell, seed) for seed in options.seeds]
        beside = tested(done[0])["baseline"]
        values = [tested(t)["loss_nats"] for t in done]
        trivial = f"{beside['loss_nats']:.2f} ({beside['name']})"
        rows.append(Row(f"{cell}, nats a frame", values, f"{published} (Bai et al. 2018)", trivial))
        seconds += [t.seconds for t in done]
    report(options, "JSB chorales, test", rows, seconds)


if __name__ == "__main__":
    main()
