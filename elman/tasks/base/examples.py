"""What all tasks share whose data are examples: rows that are read each as a whole."""

import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from numpy.typing import NDArray
from rich.console import Console

from elman.cells import Cell
from elman.data.core.batch import Batches
from elman.data.core.batches import Batched
from elman.data.core.examples import Examples, write_examples
from elman.data.core.records import RecordSource, split
from elman.data.text.corpus import ProgressCallback
from elman.errors import DataError, OptionError
from elman.tasks.base.options import ExampleOptions
from elman.tasks.base.prediction import NO_STEP, Prediction
from elman.tasks.base.predictor import Predictor
from elman.tasks.base.scoring import ScoredTask
from elman.train.progress import reported
from elman.train.run import Run

PARTS = ("train", "valid", "test")


O = TypeVar("O", bound=ExampleOptions)
R = TypeVar("R")
V = TypeVar("V")


class ExampleTask(ScoredTask[O], Generic[O, R]):
    """A training on examples. R: the record that a file is read as.

    A subclass says how files are read, what is learnt from the training part before (units,
    labels), and how a record becomes the arrays that the model's ``loss`` takes.
    """

    #: The column whose length the batches are sorted by; None: they are not.
    bucket_by: ClassVar[str | None] = "x"

    def __init__(self, run: Run, options: O) -> None:
        super().__init__(run, options)
        self._learnt: dict[str, Any] | None = None
        self._made: dict[str, Any] = {}

    # From files to batches

    @abstractmethod
    def read(self, files: list[str]) -> RecordSource[R]:
        """The records in files; in the embedded data where there are none."""

    @abstractmethod
    def learn(self, train: RecordSource[R], report: ProgressCallback) -> dict[str, Any]:
        """What must be known to encode: `found` has it from now on."""

    @abstractmethod
    def encode(self, record: R, source: RecordSource[R]) -> Mapping[str, Any] | None:
        """The arrays of a record; None where it is left out, which ``source.skipped`` counts."""

    def cut(self, x: NDArray[Any], record: R, source: RecordSource[R]) -> NDArray[Any] | None:
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

    def sources(self) -> dict[str, RecordSource[R]]:
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

    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        sources = self.sources()
        found = self._learnt = self.learn(sources["train"], report)
        counts, skipped = {}, {}
        for part, source in sources.items():
            examples = self._written(self._file(part), source, part, report)
            counts[part], skipped[part] = len(examples), str(source.skipped)
        about = {part: source.about for part, source in sources.items()}
        return {**found, "about": about, "examples": counts, "skipped": skipped}

    def _written(
        self, file: Path, source: RecordSource[R], part: str, report: ProgressCallback
    ) -> Examples:
        """The examples of a source, encoded into a file; DataError where there is none."""
        rows = self._encoded(source, part, report)
        first = next(rows, None)
        if first is None:
            left_out = f"; left out: {source.skipped}" if source.skipped.total else ""
            share = part == "valid" and not self.options.valid
            cure = "a larger --valid-fraction, files with --valid, or more" if share else "more"
            raise DataError(
                f"{source.about}: the {part} part has no example{left_out}; give {cure} data"
            )
        return write_examples(file, chain([first], rows))

    def _encoded(
        self, source: RecordSource[R], part: str, report: ProgressCallback
    ) -> Iterator[Mapping[str, Any]]:
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
        notes = "".join(f"left out of {part}: {why}\n" for part, why in left_out.items())
        return f"{self.found['about']['train']}\n{notes}{text} examples"

    # What came of it

    def score(
        self, model: Any, examples: Examples, report: ProgressCallback | None = None
    ) -> dict[str, Any]:
        """The scores of a model on examples."""
        return self.score_batches(model, self._in_order(examples), report)

    def score_files(self, model: Any, files: list[str], report: ProgressCallback) -> dict[str, Any]:
        """The scores of a model, and of the trivial baseline, on files."""
        source = self.read(files)
        with tempfile.TemporaryDirectory(prefix="elman-") as folder:
            examples = self._written(Path(folder) / "given.arrow", source, "given", report)
            scores = self.score(model, examples, report)
            baseline = self.baseline(examples)
        found = {**scores, "examples": len(examples), "baseline": baseline}
        return found | ({"skipped": str(source.skipped)} if source.skipped.total else {})

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """What the trivial answer scores: its name and the scores that it has."""
        return {}

    def own_scores(
        self, model: Any, report: ProgressCallback | None = None
    ) -> tuple[dict[str, Any], Examples]:
        """The scores on the test part, else on the validation part, and its examples."""
        part = "test" if "test" in self.found["examples"] else "valid"
        examples = self.examples(part)
        scores = self.score(model, examples, report)
        baseline = self.baseline(examples)
        return {**scores, "part": part, "examples": len(examples), "baseline": baseline}, examples

    def final_scores(self, trained: Predictor, console: Console) -> Examples:
        """Score the best weights; keep the scores in scores.json, and print them.

        Returns the examples that they were scored on.
        """
        with reported(console) as report:
            scores, examples = self.own_scores(trained.model, report)
        self.keep_scores(scores, console)
        return examples


@dataclass(frozen=True)
class ExamplePredictor(Predictor):
    """A trained model of a task on examples."""

    task: ExampleTask[Any, Any]

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
            return self.task.own_scores(self.model, quiet)[0]
        task = self.task
        if skip_unknown_labels:
            if not hasattr(self.options, "skip_unknown_labels"):
                raise OptionError(
                    f"{self.run.folder}: a run of '{task.name}' has no labels that could be unknown"
                )
            task = type(task)(self.run, replace(self.options, skip_unknown_labels=True))
        return task.score_files(self.model, [str(file) for file in given], quiet)


def load_best(task: ExampleTask[Any, Any], cell: type[Cell]) -> Any:
    """The model of a run with its best weights, in evaluation mode."""
    from elman.train.weights import load_built

    return load_built(lambda: task.build(cell), task.run.weights_file).eval()


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
