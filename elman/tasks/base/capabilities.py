"""What a trained model can do: a task's predictor has the methods of those that apply to it."""

import shlex
from collections.abc import Iterable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from elman.errors import OptionError
from elman.models.decoding import Decoding
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.streaming import Streaming


@runtime_checkable
class Predicts(Protocol):
    """Answers inputs: `elman predict`."""

    def parse(self, text: str) -> Any:
        """The input that a line of text stands for."""
        ...

    def read_inputs(self, file: str | Path) -> Iterator[Any]:
        """The inputs in a file of the kind that the model was trained on."""
        ...

    def predict(self, inputs: Iterable[Any], *args: Any, **options: Any) -> Iterator[Prediction]:
        """A `Prediction` for each input, in order."""
        ...


@runtime_checkable
class Decodes(Predicts, Protocol):
    """Answers by writing step by step: ``predict`` takes the option ``decoding``."""

    @property
    def decoding(self) -> Decoding:
        """How steps are chosen where nothing else is asked for."""
        ...


@runtime_checkable
class Streams(Protocol):
    """Answers while its input comes: `elman predict --stream`."""

    def stream(self) -> Streaming:
        """The model in the middle of a sequence."""
        ...


@runtime_checkable
class Generates(Protocol):
    """Writes by itself: `elman sample`."""

    def generate(self, *args: Any, **options: Any) -> Iterator[Any]:
        """A text piece by piece, or sequences one by one."""
        ...


@runtime_checkable
class Evaluates(Protocol):
    """Is scored on files: `elman eval`."""

    def evaluate(self, *args: Any, **options: Any) -> dict[str, Any]:
        """The scores on files, with those of a baseline."""
        ...


#: The command of each, and what to use where a model lacks it.
_COMMANDS: dict[type, tuple[str, str]] = {
    Predicts: ("predict", "sample"),
    Generates: ("sample", "predict"),
    Evaluates: ("eval", "predict"),
}


def require(predictor: Any, capability: type) -> Any:
    """The predictor, as one that has this capability; OptionError where it lacks it."""
    if isinstance(predictor, capability):
        return predictor
    folder, task = predictor.run.folder, predictor.run.config["task"]
    quoted = shlex.quote(str(folder))
    if capability is Streams:
        raise OptionError(
            f"{folder}: a run of '{task}' answers nothing before the end of its input, so it "
            "takes no --stream"
        )
    command, instead = _COMMANDS[capability]
    raise OptionError(
        f"{folder}: a run of '{task}' has no '{command}'; try elman {instead} {quoted}"
    )


def keywords_of(method: Any) -> tuple[str, ...]:
    """The options that a task's own ``predict``, ``generate`` or ``evaluate`` takes by keyword."""
    return tuple(signature(method).parameters)
