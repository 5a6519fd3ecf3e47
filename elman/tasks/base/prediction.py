"""What a model answers."""

from dataclasses import dataclass
from typing import Any

#: Why an input has no answer.
NO_STEP = "the input is empty"


@dataclass(frozen=True)
class Prediction:
    """What a model answers to one input.

    text: for people. record: for programs, as JSON knows it; {"left_out": why} and no text where
    there is no answer. attention: [steps, inputs] weights with the names of both, where the model
    has them.
    """

    text: str
    record: dict[str, Any]
    attention: Any = None
