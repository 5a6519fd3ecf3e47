"""Answers while the input comes: one step a call, the state carried."""

import time
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch

from elman.errors import DataError, OptionError
from elman.layers import Recurrent, Stack
from elman.layers.stream import Stream
from elman.tasks.trained import Answer


class Streaming(Protocol):
    """A model in the middle of a sequence. Made by ``Trained.stream()``."""

    def pieces(self, stdin: BinaryIO) -> Iterator[Any]:
        """What a step reads, as it comes; None where a sequence ends and another begins."""
        ...

    def __call__(self, piece: Any) -> Answer | None:
        """Read one more piece; None where there is nothing to say yet."""
        ...

    def end(self) -> Answer | None:
        """End the sequence: what is left to say of it. The next piece begins another."""
        ...


class Lines:
    """Pieces that are lines of UTF-8 text; an empty one ends a sequence."""

    def pieces(self, stdin: BinaryIO) -> Iterator[str | None]:
        for number, line in enumerate(stdin, 1):
            try:
                yield line.decode("utf-8").strip() or None
            except UnicodeDecodeError as error:
                raise DataError(f"standard input, line {number}: is not UTF-8: {error}") from error

    def end(self) -> Answer | None:
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


def answers(streaming: Streaming, stdin: BinaryIO, seconds: list[float]) -> Iterator[Answer]:
    """The answers to all of an input. seconds: gets the time of each step."""
    for piece in streaming.pieces(stdin):
        begin = time.perf_counter()
        with torch.inference_mode():
            answer = streaming.end() if piece is None else streaming(piece)
        if piece is not None:
            seconds.append(time.perf_counter() - begin)
        if answer is not None:
            yield answer
    with torch.inference_mode():
        last = streaming.end()
    if last is not None:
        yield last


def timing(seconds: list[float]) -> str:
    """The median and the 99th percentile of the time of a step, for people."""
    if not seconds:
        return "no step"
    median, late = np.percentile(seconds, (50, 99)) * 1e6
    return (
        f"{len(seconds):,} steps, {median:,.0f} us each (median), {late:,.0f} us (99th percentile)"
    )
