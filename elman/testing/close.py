"""Whether two tensors, or two nests of them, are close."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from elman.backends.reference.tolerance import TOLERANCE, difference
from elman.errors import CheckError


def assert_close(actual: Any, expected: Any, tolerance: float | None = None) -> None:
    """Raise CheckError where two tensors, or two nests of them, are not close.

        |actual - expected| <= tolerance * (1 + |expected|), NaN where NaN is expected

    tolerance: None takes ``element`` of `TOLERANCE`, by the dtype of the expected tensor.
    The error names the place in the nest, the first index that is wrong, and both values.
    """
    for place, found, right in _pairs("", actual, expected):
        name = f"tensor{place}"
        kinds = [(list(t.shape), t.dtype) for t in (found, right)]
        if kinds[0] != kinds[1]:
            raise CheckError(
                f"{name} is {kinds[0][1]} {kinds[0][0]}, not {kinds[1][1]} {kinds[1][0]}"
            )
        known = TOLERANCE.get(right.dtype)
        allowed = (known.element if known else 0.0) if tolerance is None else tolerance
        wrong = difference(found, right, allowed * (1 + right.double().abs()))
        if wrong is not None:
            raise CheckError(f"{name} is {wrong}")


def _pairs(place: str, actual: Any, expected: Any) -> Iterator[tuple[str, Tensor, Tensor]]:
    if isinstance(expected, Tensor) and isinstance(actual, Tensor):
        yield place, actual, expected
    elif isinstance(expected, Mapping) and isinstance(actual, Mapping):
        if actual.keys() != expected.keys():
            raise CheckError(f"keys{place} are {sorted(actual)}, not {sorted(expected)}")
        for key in expected:
            yield from _pairs(f"{place}[{key!r}]", actual[key], expected[key])
    elif isinstance(expected, tuple | list) and isinstance(actual, tuple | list):
        if len(actual) != len(expected):
            raise CheckError(f"there are {len(actual)} values{place}, not {len(expected)}")
        for number, pair in enumerate(zip(actual, expected, strict=True)):
            yield from _pairs(f"{place}[{number}]", *pair)
    else:
        kinds = type(actual).__name__, type(expected).__name__
        raise CheckError(f"value{place} is a {kinds[0]}, expected a {kinds[1]}")
