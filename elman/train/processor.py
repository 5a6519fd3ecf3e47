"""What was fitted on the training part of the data."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from elman.data.core.files import RESTORE
from elman.data.core.reading import reading
from elman.data.core.typed import as_type
from elman.errors import RunError
from elman.train.options import ModelOptions
from elman.train.run import Run

O = TypeVar("O", bound=ModelOptions)
V = TypeVar("V")


class Processor(Generic[O]):
    """Turns the records of the data into arrays, and what a model gives back into text or numbers.

    It holds all that was fitted on the training part: units of text, labels, scales, sizes. Small
    facts are the `metadata` of the run's config.json; the rest is files of its own in the run
    folder. Training, prediction and evaluation share it.
    """

    def __init__(self, run: Run, options: O) -> None:
        self.run = run
        self.options = options
        self._made: dict[str, Any] = {}
        self._fitted: dict[str, Any] | None = None

    @property
    def loss_name(self) -> str:
        """What the loss is called in metrics.csv and among the scores."""
        return "loss_nats"

    @property
    def metadata(self) -> dict[str, Any]:
        """What was found in the data, as config.json has it; RunError where it has none."""
        if self._fitted is not None:
            return self._fitted
        metadata = self.run.config.get("metadata")
        if not isinstance(metadata, dict):
            raise RunError(f"{self.run.config_file}: does not say what its data are; {RESTORE}")
        return metadata

    def fact(self, name: str, kind: Any, make: Callable[[Any], V] | None = None) -> Any:
        """One of the `metadata`, of this type, or what ``make`` makes of it. Raises RunError where
        it is missing or of another type, or ``make`` raises."""
        value = self._checked(self.metadata, name, kind)
        if make is None:
            return value
        with reading(self.run.config_file, "a run", error=RunError, cure=RESTORE):
            return make(value)

    def damaged(self, why: str) -> RunError:
        """The error for a fact that cannot be."""
        return RunError(f"{self.run.config_file}: cannot be read as a run ({why}); {RESTORE}")

    def positive(self, name: str) -> int:
        """One of the `metadata` that is a count above 0."""
        value: int = self.fact(name, int)
        if value < 1:
            raise self.damaged(f"{name} must be a whole number above 0, got {value}")
        return value

    @property
    def files(self) -> list[str]:
        """The files that are trained on; none for the embedded data."""
        return self._checked(self.run.config, "files", list[str])

    def _checked(self, values: dict[str, Any], name: str, kind: Any) -> Any:
        if name not in values:
            raise RunError(f"{self.run.config_file}: lacks '{name}'; {RESTORE}")
        with reading(self.run.config_file, "a run", error=RunError, cure=RESTORE):
            return as_type(kind, values[name], name)

    def once(self, name: str, make: Callable[[], V]) -> V:
        """What is made at the first call, and kept."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]
