"""Records that are read each as a whole, as arrays."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from numpy.typing import NDArray

from elman.data.core.batches import Batched
from elman.data.core.examples import Examples, write_examples
from elman.data.core.records import RecordSource
from elman.data.text.corpus import ProgressCallback
from elman.errors import DataError
from elman.tasks.base.options import ExampleOptions
from elman.train.processor import Processor

O = TypeVar("O", bound=ExampleOptions)
R = TypeVar("R")


class ExampleProcessor(Processor[O], Generic[O, R]):
    """What is fitted on examples. R: the record that a file is read as.

    A subclass says how files are read, what is fitted on the training part (units, labels), and how
    a record becomes the arrays that the model's ``loss`` takes.
    """

    #: The column whose length the batches are sorted by; None: they are not.
    bucket_by: ClassVar[str | None] = "x"

    @abstractmethod
    def read(self, files: list[str]) -> RecordSource[R]:
        """The records in files; in the embedded data where there are none."""

    @abstractmethod
    def fit(self, train: RecordSource[R], report: ProgressCallback) -> dict[str, Any]:
        """Fit what `encode` needs, and save it in the run folder. Returns the `metadata`."""

    @abstractmethod
    def encode(self, record: R, source: RecordSource[R]) -> Mapping[str, Any] | None:
        """The arrays of a record; None where it is left out, which ``source.skipped`` counts."""

    def fit_to(self, train: RecordSource[R], report: ProgressCallback) -> dict[str, Any]:
        """`fit`, and have its `metadata` from now on."""
        self._fitted = self.fit(train, report)
        return self._fitted

    def cut(self, x: NDArray[Any], record: R, source: RecordSource[R]) -> NDArray[Any] | None:
        """x without what is beyond --max-length; None where it has no step. Both are counted."""
        where, most = getattr(record, "where", source.about), self.options.max_length
        if not len(x):
            source.skipped.add("example without a step", where)
            return None
        if most is not None and len(x) > most:
            source.skipped.add(f"example cut off after {most} steps", where)
        return x[:most]

    def write(
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

    # Of the run's own data

    @property
    def counts(self) -> dict[str, int]:
        """How many examples each part has."""
        return self.fact("examples", dict[str, int])

    def file(self, part: str) -> Path:
        """Where the examples of a part are."""
        return self.run.folder / "data" / f"{part}.arrow"

    def examples(self, part: str) -> Examples:
        """A part of the data, as it was encoded."""
        return Examples.open(self.file(part))

    def in_order(self, examples: Examples) -> Batched:
        """All examples in batches, the same each time."""
        size, by = self.options.batch_size, self.bucket_by
        return Batched(examples, size, seed=0, shuffle=False, bucket_by=by)
