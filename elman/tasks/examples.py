"""What all tasks share whose data are examples: rows that are read each as a whole."""

import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from elman.cells import Cell
from elman.data.batch import Batches
from elman.data.batches import Batched
from elman.data.corpus import Report
from elman.data.examples import Examples, write_examples
from elman.data.files import write_json
from elman.data.source import Source, split
from elman.errors import DataError, OptionError
from elman.option import option
from elman.tasks.trained import Trained
from elman.train.options import ModelOptions
from elman.train.progress import reported
from elman.train.run import Run
from elman.train.task import Task

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class ExampleOptions(ModelOptions):
    """What every such task takes beside the files to train on."""

    valid: list[str] = option([], "Files to validate on, instead of a share.", "Data")
    test: list[str] = option([], "Files to test the best weights on, once, at the end.", "Data")
    valid_fraction: float = option(
        0.1, "Share of the examples that is kept for validation.", "Data"
    )
    encoding: str = option("utf-8", "Of the files, as latin-1.", "Data")
    max_length: int | None = option(
        None, "Steps after which an example is cut off, and counted.", "Data"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.valid_fraction < 1 and not self.valid:
            raise OptionError("valid_fraction must lie between 0 and 1, or give files with --valid")
        if self.max_length is not None and self.max_length < 1:
            raise OptionError(f"max_length must be 1 or above, got {self.max_length}")


O = TypeVar("O", bound=ExampleOptions)
R = TypeVar("R")
V = TypeVar("V")


class ExampleTask(Task[O], Generic[O, R]):
    """A training on examples. R: the record that a file is read as.

    A subclass says how files are read, what is learnt from the training part before (units,
    labels), and how a record becomes the arrays that the model's ``loss`` takes.
    """

    #: The column whose length the batches are sorted by.
    bucket_by: ClassVar[str] = "x"

    def __init__(self, run: Run, options: O) -> None:
        super().__init__(run, options)
        self._learnt: dict[str, Any] | None = None
        self._made: dict[str, Any] = {}

    # From files to batches

    @abstractmethod
    def read(self, files: list[str]) -> Source[R]:
        """The records in files; in the embedded data where there are none."""

    @abstractmethod
    def learn(self, train: Source[R], report: Report) -> dict[str, Any]:
        """What must be known to encode: `found` has it from now on."""

    @abstractmethod
    def encode(self, record: R, source: Source[R]) -> Mapping[str, Any] | None:
        """The arrays of a record; None where it is left out, which ``source.skipped`` counts."""

    def cut(self, x: NDArray[Any], record: R, source: Source[R]) -> NDArray[Any] | None:
        """x without what is beyond --max-length; None where it has no step. Both are counted."""
        where, most = getattr(record, "where", source.about), self.options.max_length
        if not len(x):
            source.skipped.add("example without a step", where)
            return None
        if most is not None and len(x) > most:
            source.skipped.add(f"example cut off after {most} steps", where)
        return x[:most]

    def once(self, name: str, make: Callable[[], V]) -> V:
        """What is made on the first call only, after `learn` has found it."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def sources(self) -> dict[str, Source[R]]:
        """The parts of the data; the validation part is a share of the training files where no
        file is given."""
        o = self.options
        train = self.read(self.files)
        parts = {"train": train, "valid": self.read(o.valid)} if o.valid else {}
        if not o.valid:
            parts["train"], parts["valid"] = split(train, o.valid_fraction, o.seed)
        if o.test:
            parts["test"] = self.read(o.test)
        return parts

    def prepare(self, report: Report) -> dict[str, Any]:
        sources = self.sources()
        found = self._learnt = self.learn(sources["train"], report)
        counts, skipped = {}, {}
        for part, source in sources.items():
            examples = write_examples(self._file(part), self._encoded(source, part, report))
            counts[part], skipped[part] = len(examples), str(source.skipped)
            if not len(examples):
                raise DataError(f"{source.about}: the {part} part has no example; {skipped[part]}")
        return {**found, "examples": counts, "skipped": skipped}

    def _encoded(self, source: Source[R], part: str, report: Report) -> Iterator[Mapping[str, Any]]:
        for number, record in enumerate(source):
            row = self.encode(record, source)
            if row is not None:
                yield row
            if number % 256 == 0:
                report(f"reading the {part} part", number, 0)

    @property
    def found(self) -> dict[str, Any]:
        return self._learnt or super().found

    def _file(self, part: str) -> Path:
        return self.run.folder / "data" / f"{part}.arrow"

    def examples(self, part: str) -> Examples:
        """A part of the data, as it was encoded."""
        return Examples.open(self._file(part))

    def batches(self) -> tuple[Batches, Batches]:
        o = self.options
        train = Batched(self.examples("train"), o.batch_size, seed=o.seed, bucket_by=self.bucket_by)
        return train, self._in_order(self.examples("valid"))

    def _in_order(self, examples: Examples) -> Batched:
        size, by = self.options.batch_size, self.bucket_by
        return Batched(examples, size, seed=0, shuffle=False, bucket_by=by)

    def summary(self) -> str:
        counts = self.found["examples"]
        text = ", ".join(f"{counts[part]:,} {part}" for part in PARTS if part in counts)
        left_out = {part: why for part, why in self.found["skipped"].items() if why}
        for part, why in left_out.items():
            text += f"; left out of {part}: {why}"
        return f"{text} examples"

    # What came of it

    def score(self, model: Any, examples: Examples, report: Report | None = None) -> dict[str, Any]:
        """The scores of a model on examples."""
        sums: dict[str, float] = {}
        batches = self._in_order(examples)
        model.eval()
        for number in range(len(batches)):
            with torch.inference_mode():
                found, _ = self.measure(model, batches.batch(number), None)
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value
            if report is not None:
                report("evaluating", number + 1, len(batches))
        return self.scores(sums)

    def score_files(self, model: Any, files: list[str], report: Report) -> dict[str, Any]:
        """The scores of a model, and of the trivial baseline, on files."""
        source = self.read(files)
        with tempfile.TemporaryDirectory(prefix="elman-") as folder:
            rows = self._encoded(source, "given", report)
            examples = write_examples(Path(folder) / "given.arrow", rows)
            if not len(examples):
                raise DataError(f"{source.about}: has no example; {source.skipped}")
            scores = self.score(model, examples, report)
            baseline = self.baseline(examples)
        found = {**scores, "examples": len(examples), "baseline": baseline}
        return found | ({"skipped": str(source.skipped)} if source.skipped.total else {})

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """What the trivial answer scores: its name and the scores that it has."""
        return {}

    def own_scores(
        self, model: Any, report: Report | None = None
    ) -> tuple[dict[str, Any], Examples]:
        """The scores on the test part, else on the validation part, and its examples."""
        part = "test" if "test" in self.found["examples"] else "valid"
        examples = self.examples(part)
        scores = self.score(model, examples, report)
        baseline = self.baseline(examples)
        return {**scores, "part": part, "examples": len(examples), "baseline": baseline}, examples

    def final_scores(self, trained: Trained, console: Console) -> Examples:
        """Score the best weights; keep the scores in scores.json, and print them.

        Returns the examples that they were scored on.
        """
        with reported(console) as report:
            scores, examples = self.own_scores(trained.model, report)
        write_json(self.run.folder / "scores.json", scores)
        baseline = scores["baseline"]
        said = {"test": "test part", "valid": "validation part, which chose the weights"}
        table = Table("score", "model", str(baseline.get("name", "")), title=said[scores["part"]])
        for name, value in scores.items():
            if isinstance(value, float):
                beside = f"{baseline[name]:,.4f}" if name in baseline else ""
                table.add_row(name.replace("_", " "), f"{value:,.4f}", beside)
        console.print(table)
        return examples


@dataclass(frozen=True)
class TrainedOnExamples(Trained):
    """A trained model of a task on examples."""

    task: ExampleTask[Any, Any]

    def evaluate(self, files: Any, report: Report | None = None) -> dict[str, Any]:
        """The scores on files of the kind that the model was trained on, with the baseline's;
        on the run's own test part, else its validation part, where there are none."""
        given = [files] if isinstance(files, str | Path) else files
        quiet: Report = report or (lambda *_: None)
        if not given:
            return self.task.own_scores(self.model, quiet)[0]
        return self.task.score_files(self.model, [str(file) for file in given], quiet)


def load_best(task: ExampleTask[Any, Any], cell: type[Cell]) -> Any:
    """The model of a run with its best weights, in evaluation mode."""
    from elman.train.weights import load_model

    model = task.build(cell)
    load_model(task.run.weights_file, model)
    return model.eval()


def batched(values: Iterable[V], size: int) -> Iterator[list[V]]:
    """Lists of ``size`` of them; the last may be shorter."""
    several = iter(values)
    while chunk := list(islice(several, size)):
        yield chunk
