"""What a language model is judged by, on a text of any size."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.data.text.blocks import Text
from elman.data.text.corpus import Part, ProgressCallback
from elman.data.text.tokenizer import Tokenizer
from elman.models import LanguageModel
from elman.train.task import perplexity

#: ids [T + 1, 1], state -> the loss in nats of the T that follow the first, the state
Measure = Callable[[Tensor, Any], tuple[float, Any]]

AT_ONCE = 1 << 16
#: So many segments of the training text tell how large gradients are.
SEGMENTS = 200


class Piece(NamedTuple):
    """A stretch of a text, what it was made from, and how far into the text it reaches."""

    ids: NDArray[Any]
    characters: int
    words: int
    done: int


def pieces_of_text(text: Text, tokenizer: Tokenizer) -> Iterator[Piece]:
    """A text as it is read; done in characters."""
    done = 0
    for block in text.blocks():
        done += len(block)
        yield Piece(tokenizer.encode(block), len(block), len(block.split()), done)


def pieces_of_part(part: Part, folder: Path) -> Iterator[Piece]:
    """A part that was encoded before; done in tokens."""
    ids, characters, words = part.ids(folder), part.characters, part.words
    for begin in range(0, len(ids), AT_ONCE):
        several = np.asarray(ids[begin : begin + AT_ONCE])
        yield Piece(several, characters, words, begin + len(several))
        characters = words = 0


def segments(part: Part, folder: Path, size: int) -> Iterator[Tensor]:
    """Segments [size + 1] of a text, evenly spread over it."""
    ids = part.ids(folder)
    starts = np.linspace(0, max(len(ids) - size - 1, 0), SEGMENTS).astype(int)
    for start in np.unique(starts):
        yield torch.from_numpy(ids[start : start + size + 1].astype(np.int64))


def measure_of(model: LanguageModel) -> Measure:
    """The loss of a model that stays as it is."""

    @torch.inference_mode()
    def measure(ids: Tensor, state: Any) -> tuple[float, Any]:
        loss = model.loss(ids[:-1], ids[1:], state)
        return loss.total.item(), loss.state

    return measure


def language_scores(
    pieces: Iterator[Piece],
    tokenizer: Tokenizer,
    measure: Measure,
    chunk: int,
    report: Callable[[int], None],
) -> dict[str, Any]:
    """The loss from the first token to the last with the state carried, ``chunk`` at a time.

    The first token is given; its characters are not among those that the bits are shared by.
    tokens is 0 where there is no token to predict, and then there are no scores.
    """
    total, tokens, characters, words, unseen, given = 0.0, 0, 0, 0, 0, 0
    state: Any = None
    last = torch.empty(0, dtype=torch.long)
    for piece in pieces:
        ids = torch.from_numpy(piece.ids.astype(np.int64))
        if tokenizer.unknown_id is not None:
            unseen += int((ids == tokenizer.unknown_id).sum())
        given = given or len(tokenizer.decode(ids[:1].tolist()))
        ids = torch.cat((last, ids))
        for begin in range(0, len(ids) - 1, chunk):
            part = ids[begin : begin + chunk + 1, None]
            loss, state = measure(part, state)
            total += loss
            tokens += len(part) - 1
            report(piece.done - (len(ids) - begin - len(part)))
        last = ids[-1:]
        characters += piece.characters
        words += piece.words
    if tokens == 0:
        return {"tokens": 0}
    return {
        "loss_nats": total / tokens,
        "bits_per_char": total / max(characters - given, 1) / math.log(2),
        "perplexity_per_token": perplexity(total / tokens),
        "perplexity_per_word": perplexity(total / max(words, 1)),
        "tokens": tokens,
        "characters": characters,
        "words": words,
        "unknown_tokens": unseen,
    }


def validation_scores(nats: float, part: Part) -> dict[str, float]:
    """The scores from the mean loss of the tokens of a part."""
    bits = nats / math.log(2) * part.tokens / part.characters
    scores = {"loss_nats": nats, "bits_per_char": bits}
    if abs(part.tokens / part.characters - 1) > 0.01:
        scores["perplexity"] = perplexity(nats)
    return scores


def report_to(report: ProgressCallback | None, size: int) -> Callable[[int], None]:
    """Say how far the measuring is, where somebody listens."""
    if report is None:
        return lambda done: None
    return lambda done: report("evaluating", max(done, 0), size)
