"""What a tagger is judged by: tags, spans, labels and whole frames."""

from dataclasses import dataclass
from typing import Any

from elman.data.text.labels import Labels
from elman.models.common.scores import (
    accuracy,
    accuracy_counts,
    frame_counts,
    named,
    span_counts,
    span_scores,
)


@dataclass(frozen=True)
class TagScores:
    """The scores that data with these tags, and labels where there are some, allow.

    bio: whether the tags are spans, as B-x I-x O.
    """

    tags: Labels
    labels: Labels | None
    bio: bool

    def counts(self, tags: Any, label: Any, given: dict[str, Any]) -> dict[str, float]:
        """What answers, tags [T, B] and label [B] or None, add to the sums of a pass."""
        lengths, wanted = given["x_lengths"], given["tags"]
        sums = accuracy_counts(tags, wanted, lengths)
        found, right = (named(t, self.tags.names, lengths) for t in (tags, wanted))
        if self.bio:
            sums |= span_counts(found, right)
        if self.labels is not None:
            hits = accuracy_counts(label, given["label"])
            sums |= {f"label_{name}": value for name, value in hits.items()}
            said, true = (
                [self.labels.names[i] for i in ids.tolist()] for ids in (label, given["label"])
            )
            sums |= frame_counts(found, right, said, true)
        return sums

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        """The scores of a pass from its sums."""
        found = {"accuracy": accuracy(sums)}
        if self.bio:
            found |= {f"span_{name}": value for name, value in span_scores(sums).items()}
        if self.labels is not None:
            label = {"correct": sums["label_correct"], "compared": sums["label_compared"]}
            found["label_accuracy"] = accuracy(label)
            found["frame_accuracy"] = sums["frames_correct"] / max(sums["frames"], 1)
        return found
