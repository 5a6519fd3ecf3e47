"""Scores as sums: what batches and machines add up is exactly the score of all of them.

Every ``..._counts`` returns sums under names of its own, always the same ones for the same
arguments, so that dictionaries can be added and shared. The others make scores of sums; a score
of nothing is 0.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from elman.errors import ShapeError
from elman.models.common.targets import checked_ids, inside
from elman.models.text.spans import spans

Sums = dict[str, float]
Tags = Sequence[Sequence[str]]


def added(first: Sums, second: Sums) -> Sums:
    """The sums of two batches as those of one."""
    return {k: first.get(k, 0.0) + second.get(k, 0.0) for k in [*first, *second]}


def accuracy_counts(predicted: Tensor, target: Tensor, lengths: Tensor | None = None) -> Sums:
    """How many predictions are right: ``correct`` of ``compared``.

    predicted, target: [B] labels, or [T, B] tags with lengths [B].
    """
    _require_alike(list(predicted.shape), list(target.shape))
    hits, valid = predicted == target, _valid(predicted, lengths)
    return {"correct": float((hits & valid).sum()), "compared": float(valid.sum())}


def accuracy(sums: Sums) -> float:
    """correct / compared."""
    return _ratio(sums["correct"], sums["compared"])


def span_counts(predicted: Tags, target: Tags, types: Iterable[str] = ()) -> Sums:
    """How many spans there are, and how many are right in begin, end and type, as conlleval counts.

    predicted, target: for each sequence the BIO tag of each step, see
    `elman.models.text.spans.spans`.
    types: those whose spans are also counted by themselves.
    """
    kinds = ["", *types]
    sums = {_of(what, kind): 0.0 for kind in kinds for what in ("correct", "predicted", "target")}
    _require_alike([len(tags) for tags in predicted], [len(tags) for tags in target])
    for ours, theirs in zip(predicted, target, strict=True):
        found, wanted = set(spans(ours)), set(spans(theirs))
        parts = {"correct": found & wanted, "predicted": found, "target": wanted}
        for what, some in parts.items():
            sums[_of(what, "")] += len(some)
            for kind in kinds[1:]:
                sums[_of(what, kind)] += sum(span.type == kind for span in some)
    return sums


def span_scores(sums: Sums, kind: str = "") -> dict[str, float]:
    """precision, recall and f1 of all spans, or of those of one type."""
    return _f1(*(sums[_of(what, kind)] for what in ("correct", "predicted", "target")))


def frame_counts(
    predicted: Tags,
    target: Tags,
    predicted_labels: Sequence[str] | None = None,
    target_labels: Sequence[str] | None = None,
) -> Sums:
    """How many whole sequences are right, all tags and the label: ``frames_correct`` of ``frames``.

    Source: Hakkani-Tür et al. 2016, Multi-Domain Joint Semantic Frame Parsing.
    """
    _require_alike([len(tags) for tags in predicted], [len(tags) for tags in target])
    labels, wanted = predicted_labels, target_labels
    if (labels is None) != (wanted is None):
        raise ShapeError("predicted_labels and target_labels: give both or none")
    hits = [list(ours) == list(theirs) for ours, theirs in zip(predicted, target, strict=True)]
    if labels is not None and wanted is not None:
        _require_alike([len(labels), len(wanted)], [len(hits), len(hits)])
        hits = [hit and a == b for hit, a, b in zip(hits, labels, wanted, strict=True)]
    return {"frames_correct": float(sum(hits)), "frames": float(len(hits))}


def frame_accuracy(sums: Sums) -> float:
    """frames_correct / frames."""
    return _ratio(sums["frames_correct"], sums["frames"])


def confusion_counts(
    predicted: Tensor, target: Tensor, names: Sequence[str], lengths: Tensor | None = None
) -> Sums:
    """How often each class was taken for each: ``confusion.TARGET.PREDICTED``.

    predicted, target: ids of names, [B] or [T, B] with lengths [B].
    """
    rows = _confusion(predicted, target, len(names), lengths).tolist()
    return {
        f"confusion.{a}.{b}": float(n)
        for a, row in zip(names, rows, strict=True)
        for b, n in zip(names, row, strict=True)
    }


def confusion(sums: Sums, names: Sequence[str]) -> Tensor:
    """[K, K] float64: row i, column j is how often i was taken for j."""
    rows = [[sums[f"confusion.{a}.{b}"] for b in names] for a in names]
    return torch.tensor(rows, dtype=torch.float64).view(len(names), len(names))


def class_counts(
    predicted: Tensor, target: Tensor, names: Sequence[str], lengths: Tensor | None = None
) -> Sums:
    """For each class how often it was right, predicted and wanted: what `macro_f1` is made of.

    predicted, target: ids of names, [B] or [T, B] with lengths [B].
    """
    table = _confusion(predicted, target, len(names), lengths)
    columns = {"correct": table.diagonal(), "predicted": table.sum(0), "target": table.sum(1)}
    return {
        f"class_{what}.{name}": float(n)
        for what, counts in columns.items()
        for name, n in zip(names, counts.tolist(), strict=True)
    }


def class_scores(sums: Sums, name: str) -> dict[str, float]:
    """precision, recall and f1 of one class."""
    return _f1(*(sums[f"class_{what}.{name}"] for what in ("correct", "predicted", "target")))


def macro_f1(sums: Sums, names: Sequence[str]) -> float:
    """The mean f1 of the classes that were predicted or wanted at all."""
    seen = [n for n in names if sums[f"class_predicted.{n}"] + sums[f"class_target.{n}"]]
    return _ratio(sum(class_scores(sums, name)["f1"] for name in seen), len(seen))


def multi_label_counts(predicted: Tensor, target: Tensor, lengths: Tensor | None = None) -> Sums:
    """How many are on in both, in the prediction and in the target.

    predicted, target: [B, K], or [T, B, K] with lengths [B]; on where above 0.5.
    """
    _require_alike(list(predicted.shape), list(target.shape))
    valid = _valid(predicted[..., 0], lengths)[..., None]
    found, wanted = (predicted > 0.5) & valid, (target > 0.5) & valid
    columns = {"correct": found & wanted, "predicted": found, "target": wanted}
    return {f"on_{what}": float(some.sum()) for what, some in columns.items()}


def multi_label_scores(sums: Sums) -> dict[str, float]:
    """precision, recall and f1 of what is on, and its accuracy TP / (TP + FP + FN).

    Source of the accuracy: Bay, Ehmann & Downie 2009, Evaluation of Multiple-F0 Estimation.
    """
    hits, found, wanted = (sums[f"on_{what}"] for what in ("correct", "predicted", "target"))
    return _f1(hits, found, wanted) | {"accuracy": _ratio(hits, found + wanted - hits)}


def named(ids: Tensor, names: Sequence[str], lengths: Tensor | None = None) -> list[list[str]]:
    """The tags of each sequence by name: ids [T, B] -> B lists."""
    counts = [len(ids)] * ids.shape[1] if lengths is None else [int(n) for n in lengths]
    columns = zip(ids.T.tolist(), counts, strict=True)
    return [[names[i] for i in column[:n]] for column, n in columns]


def _confusion(predicted: Tensor, target: Tensor, count: int, lengths: Tensor | None) -> Tensor:
    """[K, K] int64: row target, column predicted."""
    _require_alike(list(predicted.shape), list(target.shape))
    valid = _valid(predicted, lengths)
    found = checked_ids("predicted", predicted, count, valid.shape, valid)[valid]
    wanted = checked_ids("target", target, count, valid.shape, valid)[valid]
    return torch.bincount(wanted * count + found, minlength=count**2).view(count, count)


def _valid(ids: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return torch.ones_like(ids, dtype=torch.bool)
    if ids.dim() != 2:
        raise ShapeError(f"lengths are of sequences: expected [T, B], got {list(ids.shape)}")
    return inside(lengths, ids)


def _require_alike(predicted: list[int], target: list[int]) -> None:
    if predicted != target:
        raise ShapeError(f"predictions and targets must have one shape, got {predicted}, {target}")


def _of(what: str, kind: str) -> str:
    return f"spans_{what}.{kind}" if kind else f"spans_{what}"


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _f1(correct: float, predicted: float, target: float) -> dict[str, float]:
    return {
        "precision": _ratio(correct, predicted),
        "recall": _ratio(correct, target),
        "f1": _ratio(2 * correct, predicted + target),
    }
