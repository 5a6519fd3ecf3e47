"""What `elman train generate --conditional` writes from: labels, or vectors of numbers."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from elman.data.core.records import SkipLog
from elman.data.core.scalers import StandardScaler
from elman.data.core.typed import as_type
from elman.data.text.labels import Labels
from elman.errors import DataError, OptionError, unknown

#: So many of them are shown at the end of training.
SHOWN = 10


@dataclass(frozen=True)
class LabelConditioning:
    """A label, for each of which a vector is learnt."""

    labels: Labels

    @classmethod
    def fit(cls, labels: Iterable[tuple[str, str]]) -> "LabelConditioning":
        """Those of the training part; each with its place."""
        return cls(Labels.fit(label for label, _ in labels))

    @property
    def names(self) -> tuple[str, ...]:
        """All there are, the most frequent first."""
        return self.labels.names

    @property
    def shown(self) -> tuple[str, ...]:
        """Some to look at first."""
        return self.names[:SHOWN]

    def size(self, vector_size: int) -> dict[str, int]:
        """What a `FromVector` is told of it."""
        return {"vector_size": vector_size, "num_classes": len(self.labels)}

    def value(self, label: str, where: str, skipped: SkipLog | None) -> Any:
        """What an example keeps of it; None where it is unknown and ``skipped`` counts it."""
        return self.labels.id(label, where, skipped)

    def tensor(self, labels: list[str]) -> Tensor:
        """What the model is given for these; OptionError for an unknown one."""
        for label in labels:
            if label not in self.names:
                raise unknown("label", label, self.names)
        return torch.tensor([self.names.index(label) for label in labels])

    def drawn(self, count: int, generator: torch.Generator) -> Tensor:
        """So many, as often as they are in training."""
        often = torch.tensor(self.labels.counts, dtype=torch.float64)
        return torch.multinomial(often, count, replacement=True, generator=generator)

    def to_json(self) -> dict[str, Any]:
        """What `conditioning_from_json` makes it from again."""
        return self.labels.to_json()


@dataclass(frozen=True)
class VectorConditioning:
    """A vector of D numbers, given as text: "0.3 -1.2"; the model reads it scaled.

    scale: to mean 0 and deviation 1 in training. shown: some of training, to look at first.
    """

    scale: StandardScaler
    shown: tuple[str, ...]
    #: There is no list of all vectors.
    names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def fit(cls, labels: Iterable[tuple[str, str]]) -> "VectorConditioning":
        """Those of the training part, each with its place; DataError where they differ in size."""
        shown: list[str] = []
        size = 0

        def rows() -> Any:
            nonlocal size
            for label, where in labels:
                vector = parsed_vector(label, where, size or None)
                size = len(vector)
                if len(shown) < SHOWN and label not in shown:
                    shown.append(label)
                yield vector[None]

        scale = StandardScaler.fit(rows())
        if not size:
            raise DataError("the training part holds no vector to write from")
        return cls(scale, tuple(shown))

    def size(self, vector_size: int) -> dict[str, int]:
        """What a `FromVector` is told of it: the vectors have a size of their own."""
        return {"vector_size": self.scale.size}

    def value(self, label: str, where: str, skipped: SkipLog | None) -> Any:
        """What an example keeps of it; DataError where it is no vector of this size."""
        return self.scale(parsed_vector(label, where, self.scale.size))

    def tensor(self, labels: list[str]) -> Tensor:
        """What the model is given for these; OptionError for what is no vector of this size."""
        try:
            rows = [self.value(label, f"'{label}'", None) for label in labels]
        except DataError as error:
            raise OptionError(str(error)) from error
        return torch.from_numpy(np.stack(rows))

    def drawn(self, count: int, generator: torch.Generator) -> Tensor:
        """So many, normal with the mean and the deviation of those in training."""
        return torch.randn(count, self.scale.size, generator=generator)

    def to_json(self) -> dict[str, Any]:
        """What `conditioning_from_json` makes it from again."""
        return {"vectors": self.scale.to_json(), "shown": list(self.shown)}


Conditioning = LabelConditioning | VectorConditioning


def conditioning_from_json(value: dict[str, Any]) -> Conditioning:
    """What ``to_json`` described."""
    if "vectors" in value:
        shown = as_type(tuple[str, ...], value["shown"], "shown")
        return VectorConditioning(StandardScaler.from_json(value["vectors"]), shown)
    labels = Labels.from_json(value)
    if min(labels.counts, default=0) < 1:
        raise ValueError("labels must be there, each seen at least once")
    return LabelConditioning(labels)


def parsed_vector(text: str, where: str, size: int | None) -> np.ndarray:
    """The numbers of "0.3 -1.2", "0.3,-1.2" or "[0.3, -1.2]"; DataError where that is none, or
    not of that size."""
    words = re.split(r"[\s,;]+", text.strip().strip("[]()").strip())
    try:
        vector = np.array([float(word) for word in words])
    except ValueError as error:
        raise DataError(
            f"{where}: must be a vector, numbers with spaces or commas between, got {text[:40]!r}"
        ) from error
    if not np.isfinite(vector).all():
        raise DataError(f"{where}: a vector must be of finite numbers, got {text[:40]!r}")
    if size is not None and len(vector) != size:
        raise DataError(f"{where}: the vector has {len(vector)} numbers, the others have {size}")
    return vector
