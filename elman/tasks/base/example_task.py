"""Trainings on examples: rows that are read each as a whole."""

from typing import Any, Generic, TypeVar

from rich.console import Console

from elman.data.core.batch import Batches
from elman.data.core.batches import Batched
from elman.data.core.examples import Examples
from elman.data.core.records import RecordSource, split
from elman.data.text.corpus import ProgressCallback
from elman.tasks.base.example_predictor import ExamplePredictor
from elman.tasks.base.example_processor import ExampleProcessor
from elman.tasks.base.options import ExampleOptions
from elman.tasks.base.scoring import ScoredTask
from elman.train.progress import reported

PARTS = ("train", "valid", "test")

O = TypeVar("O", bound=ExampleOptions)


class ExampleTask(ScoredTask[O], Generic[O]):
    """A training on examples; its processor says how files are read and encoded."""

    processor: ExampleProcessor[Any, Any]

    def sources(self) -> dict[str, RecordSource[Any]]:
        """The parts of the data; the validation part is a share of the training files where no
        file is given."""
        o, read = self.options, self.processor.read
        train = read(self.processor.files)
        parts = {"train": train, "valid": read(o.valid)} if o.valid else {}
        if not o.valid:
            parts["train"], parts["valid"] = split(train, o.valid_fraction, o.seed)
        if o.test:
            parts["test"] = read(o.test)
        return parts

    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        sources, processor = self.sources(), self.processor
        fitted = processor.fit_to(sources["train"], report)
        counts, skipped = {}, {}
        for part, source in sources.items():
            examples = processor.write(processor.file(part), source, part, report)
            counts[part], skipped[part] = len(examples), str(source.skipped)
        about = {part: source.about for part, source in sources.items()}
        return {**fitted, "about": about, "examples": counts, "skipped": skipped}

    def batches(self) -> tuple[Batches, Batches]:
        o, processor = self.options, self.processor
        examples, by = processor.examples("train"), processor.bucket_by
        train = Batched(examples, o.batch_size, seed=o.seed, bucket_by=by)
        return train, processor.in_order(processor.examples("valid"))

    def summary(self) -> str:
        counts = self.processor.counts
        text = ", ".join(f"{counts[part]:,} {part}" for part in PARTS if part in counts)
        about = self.processor.fact("about", dict[str, str])
        skipped = self.processor.fact("skipped", dict[str, str])
        left_out = {part: why for part, why in skipped.items() if why}
        notes = "".join(f"left out of {part}: {why}\n" for part, why in left_out.items())
        return f"{about['train']}\n{notes}{text} examples"

    def final_scores(self, trained: ExamplePredictor, console: Console) -> Examples:
        """Score the best weights; keep the scores in scores.json, and print them.

        Returns the examples that they were scored on.
        """
        with reported(console) as report:
            scores, examples = trained.own_scores(report)
        self.keep_scores(scores, console)
        return examples
