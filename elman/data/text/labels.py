"""Labels as numbers, and back."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from elman.data.core.files import loaded, write_json
from elman.data.core.records import SkipLog
from elman.data.core.typed import as_type
from elman.data.text.tokenizer import Ids
from elman.errors import DataError, unknown


@dataclass(frozen=True)
class Labels:
    """Labels as numbers 0, 1, ...: the most frequent first, equals by name.

    counts: how often each was seen in the training data.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def fit(cls, labels: Iterable[str], about: str = "the data") -> "Labels":
        """The labels of the training data; DataError for fewer than two different ones.

        about: what they are read from, for people.
        """
        counts = Counter(labels)
        if len(counts) < 2:
            held = f"only {next(iter(counts))!r}" if counts else "none"
            raise DataError(f"{about}: must hold at least two different labels, got {held}")
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls(tuple(name for name, _ in ranked), tuple(count for _, count in ranked))

    def __len__(self) -> int:
        return len(self.names)

    def id(self, name: str, where: str, skipped: SkipLog | None = None) -> int | None:
        """A label's number; where it is unknown, None, counted in ``skipped``.

        Raises DataError for an unknown label where ``skipped`` is not given.
        """
        found = self._ids.get(name)
        if found is not None:
            return found
        if skipped is None:
            shown = self.names[:20] if len(self.names) > 20 else self.names
            raise DataError(
                f"{where}: {unknown('label', name, shown)}"
                f"{f' ... ({len(self)} in all)' if len(shown) < len(self) else ''}: the training "
                "data hold no other; mend it, or leave out what has it: --skip-unknown-labels"
            )
        skipped.add(f"label that the training data do not hold: {name!r}", where)
        return None

    def ids(self, names: Sequence[str], where: str, skipped: SkipLog | None = None) -> Ids | None:
        """The numbers of a sequence of labels, None where one of them is unknown, as in `id`."""
        found = [self.id(name, where, skipped) for name in names]
        return None if None in found else np.array(found, dtype=np.int64)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def to_json(self) -> dict[str, Any]:
        """Label -> how often it was seen, in the order of the numbers."""
        return {"labels": dict(zip(self.names, self.counts, strict=True))}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Labels":
        """The labels that `to_json` described."""
        labels = as_type(dict[str, int], value["labels"], "labels")
        return cls(tuple(labels), tuple(labels.values()))

    def save(self, path: Path) -> None:
        """Write the labels as JSON."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "Labels":
        """Read what `save` wrote; RunError where it is missing, damaged or foreign."""
        return loaded(path, "labels", cls.from_json)
