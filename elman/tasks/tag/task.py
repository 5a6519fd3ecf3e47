"""`elman train tag`: a sequence in, a tag for each of its steps out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from elman.cells import Cell
from elman.data.core.batch import Batch
from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.data.core.records import RecordSource
from elman.data.embedded import embedded_file
from elman.data.text.corpus import ProgressCallback
from elman.data.text.encoder import TextEncoder
from elman.data.text.labels import Labels
from elman.data.text.tagged import TaggedSentence, tagged_sentences
from elman.errors import DataError, require_positive, unknown
from elman.layers.pooling import KINDS as POOLINGS
from elman.models.common.loss import Loss
from elman.models.text.spans import forbidden_by_bio, is_bio
from elman.models.text.tagger import Tagger
from elman.settings import option
from elman.tasks.base.examples import ExampleTask, batched, load_best
from elman.tasks.base.figures import draw_confusion
from elman.tasks.base.options import UnitOptions
from elman.tasks.tag.predictor import TagPredictor, known, to_read
from elman.tasks.tag.scores import TagScores
from elman.train.custom_cell import cell_class


@dataclass(frozen=True)
class TagOptions(UnitOptions):
    """What `elman train tag` takes beside the files."""

    word_column: int = option(1, "The column of words in CoNLL files, from 1.", "Data")
    tag_column: int | None = option(None, "The column of tags. [dim]default: the last[/]", "Data")
    skip_unknown_labels: bool = option(
        False, "Leave out, and count, what has a tag that training does not know.", "Data"
    )
    vocab_size: int | None = option(None, "At most so many words. [dim]default: all[/]", "Text")
    min_count: int | None = option(
        None,
        "Words seen less often are read as the unknown one, which so is learnt. [dim]default: 2[/]",
        "Text",
    )
    lower_case: bool = option(True, "Read words in lower case; their letters stay.", "Text")
    characters: bool = option(True, "Read the letters of each word too.", "Model")
    character_embedding: int = option(25, "Size of a letter's vector.", "Model")
    character_hidden: int = option(25, "Units, each way, that read a word's letters.", "Model")
    bidirectional: bool = option(True, "Read from both ends.", "Model")
    window: int = option(
        1, "Words that each step reads: its own and as many neighbours on each side.", "Model"
    )
    crf: bool = option(
        False, "Score neighbouring tags together: a conditional random field.", "Model"
    )
    global_context: bool = option(False, "Tell each step's tag of the whole sequence.", "Model")
    pooling: str = option(
        "max",
        "How steps become one vector, for the label and the context: " + ", ".join(POOLINGS) + ".",
        "Model",
    )
    label_weight: float = option(
        1.0, "Weight of the label's loss beside that of the tags.", "Optimisation"
    )
    word_dropout: float = option(
        0.0, "Share of the words that are hidden from the model in training.", "Regularisers"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("word_column", "character_embedding", "character_hidden")
        require_positive(**{name: getattr(self, name) for name in sizes})
        if self.tag_column is not None:
            require_positive(tag_column=self.tag_column)
        if self.pooling not in POOLINGS:
            raise unknown("pooling", self.pooling, POOLINGS)

    @property
    def least_count(self) -> int:
        return self.min_count or 2


class Tagging(ExampleTask[TagOptions, TaggedSentence]):
    """Sentences with a tag for each word, and perhaps a label for the whole."""

    name = "tag"
    title = "a tagger"
    help = """Train a tagger: slots and intent, parts of speech, names, protein structure.

    [bold]elman train tag[/]                                    secondary structure of proteins
    [bold]elman train tag train.conll --test test.conll[/]      a word and its tag a line
    [bold]elman train tag snips/train --valid snips/valid[/]    folders of seq.in, seq.out, label
    [bold]elman train tag train.conll --crf --word-dropout 0.1[/]
    """
    files_help = (
        "CoNLL columns, or a folder of seq.in, seq.out and perhaps label. [dim]default: proteins[/]"
    )
    options_type = TagOptions
    unit = "token"

    # From files to a model

    @classmethod
    def check(cls, options: TagOptions, files: list[str]) -> None:
        super().check(options, files)
        size = {"vocab_size": 2, "character_vocab_size": 2 if options.characters else None}
        _model(options, cell_class(options.cell), num_tags=2, num_labels=2, unknown_id=1, **size)

    def read(self, files: list[str]) -> RecordSource[TaggedSentence]:
        o = self.options
        given = files or [embedded_file("protein.train.conll.gz")]
        return tagged_sentences(
            given, word_column=o.word_column, tag_column=o.tag_column, encoding=o.encoding
        )

    def sources(self) -> dict[str, RecordSource[TaggedSentence]]:
        parts = super().sources()
        if not self.files and not self.options.test:
            parts["test"] = self.read([embedded_file("protein.test.conll.gz")])
        return parts

    def learn(
        self, train: RecordSource[TaggedSentence], report: ProgressCallback
    ) -> dict[str, Any]:
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
        found = {"tags": tags.to_json(), "bio": is_bio(tags.names), "labels": None}
        if names != {None}:
            labels = (sentence.label for sentence in train if sentence.label is not None)
            found["labels"] = Labels.fit(labels, train.about).to_json()
        return found

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
        return self.once("tags", lambda: Labels.from_json(self.found["tags"]))

    @property
    def labels(self) -> Labels | None:
        """The labels of whole sentences, where the data have them."""
        value = self.found["labels"]
        return self.once("labels", lambda: None if value is None else Labels.from_json(value))

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

    def build(self, cell: type[Cell]) -> Tagger:
        obeys = self.options.crf and self.fact("bio", bool)
        rules = forbidden_by_bio(self.tags.names) if obeys else (None, None)
        return _model(
            self.options,
            cell,
            num_tags=len(self.tags),
            num_labels=None if self.labels is None else len(self.labels),
            vocab_size=self.words.vocab_size,
            unknown_id=self.words.tokenizer.unknown_id,
            character_vocab_size=None if self.letters is None else self.letters.vocab_size,
            forbidden_transitions=rules[0],
            forbidden_starts=rules[1],
        )

    def summary(self) -> str:
        text = f"{super().summary()}, {self.words.vocab_size} kinds of word, {len(self.tags)} tags"
        return text if self.labels is None else f"{text}, {len(self.labels)} labels"

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        return model.loss(**known(batch))

    def measure(self, model: Any, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        sums, _ = super().measure(model, batch, state)
        given = known(batch)
        tags, label = model.decode(*to_read(given))
        return {**sums, **self.tag_scores.counts(tags, label, given)}, None

    @property
    def tag_scores(self) -> TagScores:
        """The scores that the data allow."""
        return TagScores(self.tags, self.labels, self.found["bio"])

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        return {**super().scores(sums), **self.tag_scores.scores(sums)}

    def monitor(self, scores: dict[str, float]) -> float:
        """By whole frames where there are labels, else by spans, else by tags."""
        for name in ("frame_accuracy", "span_f1"):
            if name in scores:
                return -scores[name]
        return -scores["accuracy"]

    def show(self, scores: dict[str, float]) -> str:
        hidden = ("span_precision", "span_recall")
        return super().show({k: v for k, v in scores.items() if k not in hidden})

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """For each word the tag that it has most often in training, and the commonest label."""
        counts = np.zeros((self.words.vocab_size, len(self.tags)), dtype=np.int64)
        for row in self.examples("train"):
            np.add.at(counts, (np.asarray(row["x"]), np.asarray(row["tags"])), 1)
        # What was never seen has the commonest tag, number 0.
        best = torch.from_numpy(counts.argmax(1))
        sums: dict[str, float] = {}
        for rows in batched(examples, 256):
            given = collate(rows).tensors
            label = torch.zeros(len(rows), dtype=torch.int64)
            for name, value in self.tag_scores.counts(best[given["x"]], label, given).items():
                sums[name] = sums.get(name, 0.0) + value
        return {"name": "each word's commonest tag", **self.tag_scores.scores(sums)}

    # The end

    def load(self, cell: type[Cell]) -> TagPredictor:
        return TagPredictor(self.run, self.options, load_best(self, cell), self)

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained = self.load(cell)
        examples = self.final_scores(trained, console)
        counts = np.zeros((len(self.tags), len(self.tags)))
        for rows in batched(examples, 64):
            given = known(collate(rows))
            wanted, lengths = given["tags"], given["x_lengths"]
            tags, _ = trained.model.decode(*to_read(given))
            inside = torch.arange(len(wanted))[:, None] < lengths
            np.add.at(counts, (wanted[inside].numpy(), tags[inside].numpy()), 1)
        draw_confusion(self.run.folder / "confusion.png", counts, self.tags.names)
        self.point_to(console, "confusion.png")


def _model(options: TagOptions, cell: type[Cell], **found: Any) -> Tagger:
    """found: what the data say, and so no option does."""
    return Tagger(
        **found,
        embedding_size=options.embedding,
        hidden_size=options.hidden,
        num_layers=options.layers,
        bidirectional=options.bidirectional,
        window=options.window,
        crf=options.crf,
        label_weight=options.label_weight,
        global_context=options.global_context,
        pooling=options.pooling,
        character_embedding_size=options.character_embedding,
        character_hidden_size=options.character_hidden,
        word_dropout=options.word_dropout,
        **options.stack(cell),
    )
