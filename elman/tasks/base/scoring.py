"""What all tasks share that are scored in batches: the scores, their table, where to look."""

import shlex
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from elman.data.core.batch import Batches
from elman.data.core.files import write_json
from elman.data.text.corpus import ProgressCallback
from elman.train.custom_cell import cell_argument
from elman.train.options import ModelOptions
from elman.train.task import Task

O = TypeVar("O", bound=ModelOptions)
#: What is said of the part that the scores are of.
SAID = {"test": "test part", "valid": "validation part"}


def score_batches(
    predictor: Any, batches: Batches, report: ProgressCallback | None = None
) -> dict[str, Any]:
    """The scores of a `Predictor` on all batches of a pass."""
    sums: dict[str, float] = {}
    predictor.model.eval()
    for number in range(len(batches)):
        with torch.inference_mode():
            found, _ = predictor.measure(batches.batch(number), None)
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + value
        if report is not None:
            report("evaluating", number + 1, len(batches))
    return predictor.scores(sums)


class ScoredTask(Task[O]):
    """A training whose model is scored at the end, beside a trivial answer."""

    def keep_scores(self, scores: dict[str, Any], console: Console) -> None:
        """Write scores.json, and print the scores beside those of the baseline.

        scores: what `scores` gives; "part": train, valid or test; "baseline": its "name", and the
        scores that it has, or a list of several.
        """
        write_json(self.run.folder / "scores.json", scores)
        beside = baselines_in(scores)
        names = [escape(str(baseline.get("name", ""))) for baseline in beside]
        chose = scores["part"] == "valid" and self.options.keep_weights == "best"
        title = SAID[scores["part"]] + (", which chose the weights" if chose else "")
        table = Table("score", "model", *names, title=title)
        for name, value in scores.items():
            if isinstance(value, float):
                theirs = (f"{b[name]:,.4f}" if name in b else "" for b in beside)
                table.add_row(name.replace("_", " "), f"{value:,.4f}", *theirs)
        console.print(table)

    def point_to(self, console: Console, *names: str) -> None:
        """Print which files of the run folder to look at, and how the model is used."""
        folder = self.run.folder
        shown = ", ".join(str(folder / name) for name in ("curves.png", *names))
        use = f"{shlex.quote(str(folder))}{cell_argument(self.options.cell)}"
        for line in (f"see:    {shown}", f"more:   elman predict {use} {self.given}"):
            console.print(line, highlight=False, markup=False)

    @property
    def given(self) -> str:
        """What `elman predict` is given, in the line that says how to use the model."""
        return '"..."'


def baselines_in(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """The trivial answers beside a model, each with its name and the scores that it has."""
    beside = scores.get("baseline") or []
    return beside if isinstance(beside, list) else [beside]
