"""A trained tagger: sentences in, tags, spans and labels out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elman.data.core.batch import Batch
from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.data.core.lines import read_lines, unpacked_name
from elman.data.text.tagged import PARALLEL, untagged_sentences
from elman.errors import OptionError
from elman.models.common.loss import Loss
from elman.models.common.scores import added, named
from elman.models.text.spans import spans
from elman.models.text.tagger import Tagger
from elman.tasks.base.example_predictor import ExamplePredictor, answered, batched
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.streaming import Lines, stack_stream
from elman.tasks.tag.options import TagOptions
from elman.tasks.tag.processor import TagProcessor, known, to_read
from elman.tasks.tag.scores import TagScores


@dataclass(frozen=True)
class TagPredictor(ExamplePredictor):
    """A trained tagger."""

    options: TagOptions
    model: Tagger
    processor: TagProcessor

    def parse(self, text: str) -> list[str]:
        """The words of a line: what stands between white space."""
        return text.split()

    def read_inputs(self, file: str | Path) -> Iterator[list[str]]:
        """The words of the sentences in a file; tags, where it has some, are not looked at.

        A folder's seq.in, a .txt file, and after a training on folders any file hold a sentence a
        line; another file is CoNLL.
        """
        path, encoding = Path(file), self.options.encoding
        if path.is_dir():
            path = path / PARALLEL[0]
        in_lines = path.name == PARALLEL[0] or unpacked_name(path).suffix == ".txt"
        if in_lines or any(is_parallel(Path(given)) for given in self.processor.files):
            return (line.split() for line in read_lines(path, encoding))
        column = self.options.word_column
        return untagged_sentences(path, word_column=column, encoding=encoding)

    def predict(
        self, inputs: Iterable[Sequence[str]], *, batch_size: int = 64
    ) -> Iterator[Prediction]:
        """For the words of each sentence their tags, and its label."""
        return answered(inputs, batch_size, lambda words: not words, self._answers)

    @property
    def tags(self) -> tuple[str, ...]:
        """The names of the tags, as `probabilities` counts them."""
        return self.processor.tags.names

    def probabilities(
        self, inputs: Iterable[Sequence[str]], *, batch_size: int = 64
    ) -> Iterator[Tensor]:
        """For the words of each sentence p of every tag: [words, tags].

        What several trainings on the same data give can be averaged.
        """
        for several in batched(inputs, batch_size):
            given = known(collate([self.processor.encode_words(words) for words in several]))
            shares, _ = self.model.probabilities(*to_read(given))
            for b, words in enumerate(several):
                yield shares[: len(words), b]

    def stream(self) -> "TaggerStream":
        return TaggerStream(self)

    def _answers(self, several: list[Sequence[str]]) -> Iterator[Prediction]:
        given = known(collate([self.processor.encode_words(words) for words in several]))
        shares, label_shares = self.model.probabilities(*to_read(given))
        # Only a CRF's best path is another than the best tag of each step.
        crf = self.model.crf is not None
        tags = self.model.decode(*to_read(given))[0] if crf else shares.argmax(-1)
        certain = shares.gather(-1, tags[..., None])[..., 0]
        for b, found in enumerate(named(tags, self.processor.tags.names, given["x_lengths"])):
            p = certain[: len(found), b].tolist()
            label = None if label_shares is None else label_shares[b]
            yield self._answer(list(several[b]), found, p, label)

    def _answer(
        self, words: list[str], tags: list[str], p: list[float], label_shares: Any
    ) -> Prediction:
        record: dict[str, Any] = {"words": words, "tags": tags, "probabilities": p}
        text = " ".join(f"{word}/{tag}" for word, tag in zip(words, tags, strict=True))
        if self.processor.bio:
            record["spans"] = [
                {
                    "type": s.type,
                    "begin": s.begin,
                    "end": s.end,
                    "text": " ".join(words[s.begin : s.end]),
                }
                for s in spans(tags)
            ]
        if label_shares is not None and self.processor.labels is not None:
            best = int(label_shares.argmax())
            record["label"] = self.processor.labels.names[best]
            record["label_probability"] = float(label_shares[best])
            text = f"{record['label']}\t{text}"
        return Prediction(text, record)

    # Scores

    def loss(self, batch: Batch, state: Any) -> Loss:
        return self.model.loss(**known(batch))

    def measure(self, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        sums, _ = super().measure(batch, state)
        given = known(batch)
        tags, label = self.model.decode(*to_read(given))
        return {**sums, **self.tag_scores.counts(tags, label, given)}, None

    @property
    def tag_scores(self) -> TagScores:
        """The scores that the data allow."""
        p = self.processor
        return TagScores(p.tags, p.labels, p.bio)

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        return {**super().scores(sums), **self.tag_scores.scores(sums)}

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """For each word the tag that it has most often in training, and the commonest label."""
        p = self.processor
        counts = np.zeros((p.words.vocab_size, len(p.tags)), dtype=np.int64)
        for row in p.examples("train"):
            np.add.at(counts, (np.asarray(row["x"]), np.asarray(row["tags"])), 1)
        # What was never seen has the commonest tag, number 0.
        best = torch.from_numpy(counts.argmax(1))
        sums: dict[str, float] = {}
        for rows in batched(examples, 256):
            given = collate(rows).tensors
            label = torch.zeros(len(rows), dtype=torch.int64)
            sums = added(sums, self.tag_scores.counts(best[given["x"]], label, given))
        return {"name": "each word's commonest tag", **self.tag_scores.scores(sums)}


class TaggerStream(Lines):
    """The tag of each word as it comes, a word a line; of the label nothing is said."""

    def __init__(self, trained: TagPredictor) -> None:
        if trained.model.crf is not None:
            raise OptionError(
                f"{trained.run.folder}: a CRF's best tags are those of a whole sentence; train "
                "without --crf"
            )
        if trained.model.reader.window > 1:
            raise OptionError(
                f"{trained.run.folder}: reads each word with those after it; train with --window 1"
            )
        if trained.model.context_output is not None:
            raise OptionError(
                f"{trained.run.folder}: each tag is told of the whole sequence; train without "
                "--global-context"
            )
        self.trained = trained
        self.layers = stack_stream(trained.run.folder, trained.model.reader.encoder.stack)

    def __call__(self, piece: str) -> Prediction:
        model, processor = self.trained.model, self.trained.processor
        given = known(collate([processor.encode_words([piece])]))
        hidden = self.layers(model.reader.vectors(*to_read(given))[0, 0])
        p = model.output(hidden).softmax(-1)
        tag, share = processor.tags.names[int(p.argmax())], float(p.max())
        return Prediction(f"{piece}/{tag}", {"word": piece, "tag": tag, "probability": share})

    def end(self) -> None:
        self.layers.reset()


def is_parallel(path: Path) -> bool:
    """Whether these are sentences a line: a folder of parallel files, or one of them."""
    return path.is_dir() or path.name in PARALLEL
