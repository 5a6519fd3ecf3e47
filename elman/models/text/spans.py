"""Spans of labelled words: what BIO tags mean, and which cannot follow each other."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from elman.errors import DataError


class Span(NamedTuple):
    """Steps begin ... end - 1, and what they are."""

    type: str
    begin: int
    end: int


def spans(tags: Sequence[str]) -> list[Span]:
    """The spans that BIO tags mark, found as conlleval finds them.

        a span of type X begins at B-X, and at I-X unless a span of type X goes on there
        it ends before the next B, before O, before another type, and at the end

    tags: "O", "B-X", "I-X"; X may be empty and hold hyphens. Raises DataError for another tag.

    Source: Tjong Kim Sang & Buchholz 2000, Introduction to the CoNLL-2000 Shared Task: Chunking.
    """
    found: list[Span] = []
    begin, current = 0, None
    for t, tag in enumerate([*tags, "O"]):
        prefix, kind = parsed(tag)
        if current is not None and (prefix != "I" or kind != current):
            found.append(Span(current, begin, t))
            current = None
        if prefix != "O" and current is None:
            begin, current = t, kind
    return found


def parsed(tag: str) -> tuple[str, str]:
    """B, I or O, and the type; DataError where the tag has another form."""
    prefix, _, kind = tag.partition("-")
    if prefix not in ("B", "I", "O"):
        raise DataError(
            f"tag '{tag}' marks no span: expected O, B-TYPE or I-TYPE; convert the tags to BIO, or "
            "score them by accuracy"
        )
    return prefix, kind


def is_bio(tags: Sequence[str]) -> bool:
    """Whether all of these are BIO tags, and one begins a span."""
    prefixes = [tag.partition("-")[0] for tag in tags]
    return all(p in ("B", "I", "O") for p in prefixes) and "B" in prefixes


def forbidden_by_bio(tags: Sequence[str]) -> tuple[Tensor, Tensor]:
    """What BIO (IOB2) tags rule out: I-X after anything but B-X and I-X, and at the start.

    tags: the name of each of the K tags
    Returns forbidden_transitions [K, K] bool, of tag i followed by tag j, and forbidden_starts
    [K] bool, as `elman.models.CRF` takes them. Raises DataError for a tag that is not BIO.
    """
    parts = [parsed(tag) for tag in tags]
    starts = torch.tensor([prefix == "I" for prefix, _ in parts], dtype=torch.bool)
    transitions = torch.tensor(
        [
            [after == "I" and (before == "O" or kind != found) for after, found in parts]
            for before, kind in parts
        ],
        dtype=torch.bool,
    )
    return transitions, starts
