"""Trained models of examples: their answers in batches, their scores."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from elman.data.core.examples import Examples
from elman.data.text.corpus import ProgressCallback
from elman.errors import OptionError
from elman.tasks.base.example_processor import ExampleProcessor
from elman.tasks.base.prediction import NO_STEP, Prediction
from elman.tasks.base.predictor import Predictor
from elman.tasks.base.scoring import score_batches

V = TypeVar("V")


@dataclass(frozen=True)
class ExamplePredictor(Predictor):
    """A trained model of a task on examples."""

    processor: ExampleProcessor[Any, Any]

    def evaluate(
        self,
        files: Any = (),
        report: ProgressCallback | None = None,
        *,
        skip_unknown_labels: bool = False,
    ) -> dict[str, Any]:
        """The scores on files of the kind that the model was trained on, with the baseline's;
        on the run's own test part, else its validation part, where there are none.

        skip_unknown_labels: leave out, and count, what has a label that training did not know.
        Raises DataError, OptionError.
        """
        given = [files] if isinstance(files, str | Path) else files
        quiet: ProgressCallback = report or (lambda *_: None)
        if not given:
            return self.own_scores(quiet)[0]
        processor = self.processor
        if skip_unknown_labels:
            if not hasattr(self.options, "skip_unknown_labels"):
                task = self.run.config["task"]
                raise OptionError(
                    f"{self.run.folder}: a run of '{task}' has no labels that could be unknown"
                )
            processor = self.processor_with(skip_unknown_labels=True)
        source = processor.read([str(file) for file in given])
        with tempfile.TemporaryDirectory(prefix="elman-") as folder:
            examples = processor.write(Path(folder) / "given.arrow", source, "given", quiet)
            scores = self.score(examples, quiet)
            baseline = self.baseline(examples)
        scores = {**scores, "examples": len(examples), "baseline": baseline}
        return scores | ({"skipped": str(source.skipped)} if source.skipped.total else {})

    def processor_with(self, **changed: Any) -> Any:
        """The processor with some options of its run changed."""
        return type(self.processor)(self.run, replace(self.options, **changed))

    def score(self, examples: Examples, report: ProgressCallback | None = None) -> dict[str, Any]:
        """The scores on examples."""
        return score_batches(self, self.processor.in_order(examples), report)

    def baseline(self, examples: Examples) -> Any:
        """What the trivial answer scores: its name and the scores that it has; or several."""
        return {}

    def own_scores(self, report: ProgressCallback | None = None) -> tuple[dict[str, Any], Examples]:
        """The scores on the test part, else on the validation part, and its examples."""
        part = "test" if "test" in self.processor.counts else "valid"
        examples = self.processor.examples(part)
        scores = self.score(examples, report)
        baseline = self.baseline(examples)
        return {**scores, "part": part, "examples": len(examples), "baseline": baseline}, examples


def answered(
    inputs: Iterable[V],
    batch_size: int,
    is_empty: Callable[[V], bool],
    answer: Callable[[list[V]], Iterator[Prediction]],
) -> Iterator[Prediction]:
    """An answer to each input, in order, ``batch_size`` at once; to one without a step an empty
    one that says so, so that answers and inputs stay side by side."""
    for several in batched(inputs, batch_size):
        empty = [is_empty(value) for value in several]
        left = [value for value, none in zip(several, empty, strict=True) if not none]
        answers = answer(left) if left else iter(())
        for none in empty:
            yield Prediction("", {"left_out": NO_STEP}) if none else next(answers)


def batched(values: Iterable[V], size: int) -> Iterator[list[V]]:
    """Lists of ``size`` of them; the last may be shorter."""
    several = iter(values)
    while chunk := list(islice(several, size)):
        yield chunk
