"""What all tasks share that are scored in batches: the scores, their table, where to look."""

from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from elman.data.core.batch import Batches
from elman.data.core.files import write_json
from elman.data.text.corpus import ProgressCallback
from elman.models.common.scores import added
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
            measured, _ = predictor.measure(batches.batch(number), None)
        sums = added(sums, measured)
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


def baselines_in(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """The trivial answers beside a model, each with its name and the scores that it has."""
    beside = scores.get("baseline") or []
    return beside if isinstance(beside, list) else [beside]
