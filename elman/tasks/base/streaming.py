"""Answers while the input comes: one step a call, the state carried."""

import math
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch

from elman.errors import DataError, OptionError
from elman.layers import Recurrent, Stack
from elman.layers.stream import Stream
from elman.tasks.base.prediction import Prediction


class Streaming(Protocol):
    """A model in the middle of a sequence. Made by ``Predictor.stream()``.

    between: what stands after each answer where it is printed as text.
    """

    between: str

    def pieces(self, stdin: BinaryIO) -> Iterator[Any]:
        """What a step reads, as it comes; None where a sequence ends and another begins."""
        ...

    def __call__(self, piece: Any) -> Prediction | None:
        """Read one more piece; None where there is nothing to say yet."""
        ...

    def end(self) -> Prediction | None:
        """End the sequence: what is left to say of it. The next piece begins another."""
        ...


class Lines:
    """Pieces that are lines of UTF-8 text; an empty one ends a sequence."""

    between = "\n"

    def pieces(self, stdin: BinaryIO) -> Iterator[str | None]:
        for number, line in enumerate(stdin, 1):
            try:
                yield line.decode("utf-8").strip() or None
            except UnicodeDecodeError as error:
                raise DataError(f"standard input, line {number}: is not UTF-8: {error}") from error

    def end(self) -> Prediction | None:
        """Nothing is left to say."""
        return None


def stack_stream(run: Any, stack: Stack) -> Stream:
    """The layers of a run's model, a step a call: x_t [I] to y_t [O].

    run: its folder, for the error. Raises OptionError where they read from both ends.
    """
    if not all(isinstance(layer, Recurrent) for layer in stack.layers):
        raise OptionError(
            f"{run}: reads each sequence from both ends, so it cannot answer before the end; train "
            "with --no-bidirectional"
        )
    return stack.stream()


class StepTimes:
    """How long steps took, to 1 %, in memory that does not grow with their number."""

    #: Each count is of times 1 % longer than the one before, from 10 ns to some hours.
    RATIO, LEAST, COUNTS = 1.01, 1e-8, 2800

    def __init__(self) -> None:
        self.counts = np.zeros(self.COUNTS, dtype=np.int64)

    def add(self, seconds: float) -> None:
        """Count one more step."""
        place = int(math.log(max(seconds, self.LEAST) / self.LEAST) / math.log(self.RATIO))
        self.counts[min(place, self.COUNTS - 1)] += 1

    @property
    def steps(self) -> int:
        """How many there were."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """The seconds that this share of the steps did not exceed."""
        place = int(np.searchsorted(self.counts.cumsum(), share * self.steps))
        return self.LEAST * self.RATIO ** (place + 0.5)

    def __str__(self) -> str:
        if not self.steps:
            return "no step"
        median, late = 1e6 * self.quantile(0.5), 1e6 * self.quantile(0.99)
        return (
            f"{self.steps:,} steps, {median:,.0f} us each (median), {late:,.0f} us (99th "
            "percentile)"
        )


def answers(
    streaming: Streaming, stdin: BinaryIO, times: StepTimes | None = None
) -> Iterator[Prediction]:
    """The answers to all of an input. times: gets the time of each step, where it is given."""
    for piece in streaming.pieces(stdin):
        begin = time.perf_counter()
        with torch.inference_mode():
            answer = streaming.end() if piece is None else streaming(piece)
        if piece is not None and times is not None:
            times.add(time.perf_counter() - begin)
        if answer is not None:
            yield answer
    with torch.inference_mode():
        last = streaming.end()
    if last is not None:
        yield last
