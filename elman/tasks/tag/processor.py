"""Tagged sentences as numbers: words, letters, tags and labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elman.data.core.batch import Batch
from elman.data.core.records import RecordSource
from elman.data.embedded import embedded_file
from elman.data.text.corpus import ProgressCallback
from elman.data.text.encoder import TextEncoder
from elman.data.text.labels import Labels
from elman.data.text.tagged import TaggedSentence, tagged_sentences
from elman.errors import DataError
from elman.models.text.spans import is_bio
from elman.tasks.base.example_processor import ExampleProcessor
from elman.tasks.tag.options import TagOptions

#: The arguments of `Tagger.loss` that may be columns of the data.
COLUMNS = ("x", "x_lengths", "tags", "label", "characters", "word_lengths")


class TagProcessor(ExampleProcessor[TagOptions, TaggedSentence]):
    """The words, the letters, the tags and the labels of the training part."""

    def read(self, files: list[str]) -> RecordSource[TaggedSentence]:
        o = self.options
        given = files or [embedded_file("protein.train.conll.gz")]
        return tagged_sentences(
            given, word_column=o.word_column, tag_column=o.tag_column, encoding=o.encoding
        )

    def fit(self, train: RecordSource[TaggedSentence], report: ProgressCallback) -> dict[str, Any]:
        o = self.options
        words = TextEncoder.fit_words(
            (sentence.words for sentence in train),
            vocab_size=o.vocab_size,
            min_count=o.least_count,
            lower_case=o.lower_case,
        )
        words.save(self.run.folder / "words.json")
        letters = any(len(word) > 1 for sentence in train for word in sentence.words)
        if o.characters and letters:
            several = ("".join(sentence.words) for sentence in train)
            TextEncoder.fit("char", several).save(self._letters_file)
        tags = Labels.fit((tag for sentence in train for tag in sentence.tags), train.about)
        names = {sentence.label for sentence in train}
        metadata: dict[str, Any] = {
            "tags": tags.to_json(),
            "bio": is_bio(tags.names),
            "labels": None,
        }
        if names != {None}:
            labels = (sentence.label for sentence in train if sentence.label is not None)
            metadata["labels"] = Labels.fit(labels, train.about).to_json()
        return metadata

    @property
    def _letters_file(self) -> Path:
        return self.run.folder / "letters.json"

    @property
    def words(self) -> TextEncoder:
        """The words by their numbers."""
        return self.once("words", lambda: TextEncoder.load(self.run.folder / "words.json"))

    @property
    def letters(self) -> TextEncoder | None:
        """The letters of words, where they are read."""
        there = self._letters_file.is_file()
        return self.once("letters", lambda: TextEncoder.load(self._letters_file) if there else None)

    @property
    def tags(self) -> Labels:
        """The tags by their numbers."""
        return self.once("tags", lambda: Labels.from_json(self.fact("tags", dict[str, Any])))

    @property
    def labels(self) -> Labels | None:
        """The labels of whole sentences, where the data have them."""
        return self.once("labels", self._labels)

    def _labels(self) -> Labels | None:
        names = self.fact("labels", dict[str, Any] | None)
        return None if names is None else Labels.from_json(names)

    @property
    def bio(self) -> bool:
        """Whether the tags are spans, as B-x I-x O."""
        return self.once("bio", self._bio)

    def _bio(self) -> bool:
        bio: bool = self.fact("bio", bool)
        if bio and not is_bio(self.tags.names):
            raise self.damaged("bio says that the tags are spans, and they are not")
        return bio

    def encode(
        self, record: TaggedSentence, source: RecordSource[TaggedSentence]
    ) -> Mapping[str, Any] | None:
        skipped = source.skipped if self.options.skip_unknown_labels else None
        tags = self.tags.ids(record.tags, record.where, skipped)
        kept = self.cut(np.arange(len(record.words)), record, source)
        if tags is None or kept is None:
            return None
        row = {**self.encode_words(record.words[: len(kept)]), "tags": tags[: len(kept)]}
        if self.labels is None:
            if record.label is not None:
                source.skipped.add("label not looked at, as training had none", record.where)
            return row
        if record.label is None:
            raise DataError(
                f"{record.where}: has no label, and the model was trained on sentences with one; "
                "put a file 'label' beside seq.in"
            )
        label = self.labels.id(record.label, record.where, skipped)
        return None if label is None else {**row, "label": label}

    def encode_words(self, words: Sequence[str]) -> dict[str, Any]:
        """The arrays that the model reads of the words of a sentence."""
        row: dict[str, Any] = {"x": self.words.encode_words(words)}
        if self.letters is not None:
            spelt = [self.letters.encode(word) for word in words]
            row["characters"] = np.concatenate(spelt)
            row["word_lengths"] = np.array([len(word) for word in spelt])
        return row


def to_read(given: dict[str, Any]) -> tuple[Any, ...]:
    """What the model reads of a batch: words, lengths, letters."""
    return tuple(given.get(name) for name in ("x", "x_lengths", "characters", "word_lengths"))


def known(batch: Batch) -> dict[str, Any]:
    """The columns of a batch that the model takes."""
    return {name: batch.tensors[name] for name in COLUMNS if name in batch.tensors}
