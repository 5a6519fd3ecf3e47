"""`elman train tag`: a sequence in, a tag for each of its steps out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from elman.cells import Cell
from elman.data.batch import Batch
from elman.data.batches import collate
from elman.data.corpus import Report
from elman.data.embedded import embedded_file
from elman.data.examples import Examples
from elman.data.lines import read_lines
from elman.data.sentences import Sentences
from elman.data.source import Source
from elman.data.tagged import TaggedSentence, tagged_sentences
from elman.data.vocabulary import Labels
from elman.errors import require_positive, unknown
from elman.layers.pooling import KINDS as POOLINGS
from elman.models.loss import Loss
from elman.models.scores import (
    accuracy,
    accuracy_counts,
    frame_counts,
    named,
    span_counts,
    span_scores,
)
from elman.models.spans import forbidden_by_bio, is_bio, spans
from elman.models.tagger import Tagger
from elman.option import option
from elman.tasks.examples import (
    ExampleOptions,
    ExampleTask,
    TrainedOnExamples,
    batched,
    load_best,
)
from elman.tasks.pictures import draw_confusion
from elman.tasks.trained import Answer
from elman.train.custom_cell import cell_argument

#: The arguments of `Tagger.loss` that may be columns of the data.
COLUMNS = ("x", "x_lengths", "tags", "label", "characters", "word_lengths")


@dataclass(frozen=True)
class TagOptions(ExampleOptions):
    """What `elman train tag` takes beside the files."""

    word_column: int = option(1, "The column of words in CoNLL files, from 1.", "Data")
    tag_column: int | None = option(None, "The column of tags. [dim]default: the last[/]", "Data")
    skip_unknown_labels: bool = option(
        False, "Leave out, and count, what has a tag that training does not know.", "Data"
    )
    vocab_size: int | None = option(None, "At most so many words. [dim]default: all[/]", "Text")
    min_count: int = option(1, "Words seen less often are read as one.", "Text")
    lower_case: bool = option(True, "Read words in lower case; their letters stay.", "Text")
    characters: bool = option(True, "Read the letters of each word too.", "Model")
    character_embedding: int = option(25, "Size of a letter's vector.", "Model")
    character_hidden: int = option(25, "Units, each way, that read a word's letters.", "Model")
    bidirectional: bool = option(True, "Read from both ends.", "Model")
    crf: bool = option(
        False, "A score for each pair of neighbouring tags (conditional random field).", "Model"
    )
    pooling: str = option("max", f"For the label: {', '.join(POOLINGS)}.", "Model")
    label_weight: float = option(1.0, "Of the label's loss beside the tags'.", "Optimisation")
    word_dropout: float = option(
        0.0, "Share of the words that are hidden from the model in training.", "Regularisers"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("word_column", "min_count", "character_embedding", "character_hidden")
        require_positive(**{name: getattr(self, name) for name in sizes})
        if self.pooling not in POOLINGS:
            raise unknown("pooling", self.pooling, POOLINGS)


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

    def read(self, files: list[str]) -> Source[TaggedSentence]:
        o = self.options
        given = files or [embedded_file("protein.train.conll.gz")]
        return tagged_sentences(
            given, word_column=o.word_column, tag_column=o.tag_column, encoding=o.encoding
        )

    def sources(self) -> dict[str, Source[TaggedSentence]]:
        parts = super().sources()
        if not self.files and not self.options.test:
            parts["test"] = self.read([embedded_file("protein.test.conll.gz")])
        return parts

    def learn(self, train: Source[TaggedSentence], report: Report) -> dict[str, Any]:
        o = self.options
        words = Sentences.fit_words(
            (sentence.words for sentence in train),
            vocab_size=o.vocab_size,
            min_count=o.min_count,
            lower_case=o.lower_case,
        )
        words.save(self.run.folder / "words.json")
        letters = any(len(word) > 1 for sentence in train for word in sentence.words)
        if o.characters and letters:
            several = ("".join(sentence.words) for sentence in train)
            Sentences.fit("char", several).save(self._letters_file)
        tags = Labels.fit(tag for sentence in train for tag in sentence.tags)
        names = {sentence.label for sentence in train}
        found = {"tags": tags.to_json(), "bio": is_bio(tags.names), "labels": None}
        if names != {None}:
            labels = (sentence.label for sentence in train if sentence.label is not None)
            found["labels"] = Labels.fit(labels).to_json()
        return found

    @property
    def _letters_file(self) -> Path:
        return self.run.folder / "letters.json"

    @property
    def words(self) -> Sentences:
        """The words by their numbers."""
        return self.once("words", lambda: Sentences.load(self.run.folder / "words.json"))

    @property
    def letters(self) -> Sentences | None:
        """The letters of words, where they are read."""
        there = self._letters_file.is_file()
        return self.once("letters", lambda: Sentences.load(self._letters_file) if there else None)

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
        self, record: TaggedSentence, source: Source[TaggedSentence]
    ) -> Mapping[str, Any] | None:
        skipped = source.skipped if self.options.skip_unknown_labels else None
        tags = self.tags.ids(record.tags, record.where, skipped)
        kept = self.cut(np.arange(len(record.words)), record, source)
        if tags is None or kept is None:
            return None
        row = {**self.encode_words(record.words[: len(kept)]), "tags": tags[: len(kept)]}
        if self.labels is not None:
            label = self.labels.id(record.label or "", record.where, skipped)
            if label is None:
                return None
            row["label"] = label
        return row

    def encode_words(self, words: Sequence[str]) -> dict[str, Any]:
        """The arrays that the model reads of the words of a sentence."""
        row: dict[str, Any] = {"x": self.words.encode_words(words)}
        if self.letters is not None:
            spelt = [self.letters.encode(word) for word in words]
            row["characters"] = np.concatenate(spelt)
            row["word_lengths"] = np.array([len(word) for word in spelt])
        return row

    def build(self, cell: type[Cell]) -> Tagger:
        o = self.options
        rules = forbidden_by_bio(self.tags.names) if o.crf and self.found["bio"] else (None, None)
        return Tagger(
            len(self.tags),
            vocab_size=self.words.vocab_size,
            embedding_size=o.embedding,
            hidden_size=o.hidden,
            num_layers=o.layers,
            bidirectional=o.bidirectional,
            crf=o.crf,
            forbidden_transitions=rules[0],
            forbidden_starts=rules[1],
            num_labels=None if self.labels is None else len(self.labels),
            label_weight=o.label_weight,
            pooling=o.pooling,
            character_vocab_size=None if self.letters is None else self.letters.vocab_size,
            character_embedding_size=o.character_embedding,
            character_hidden_size=o.character_hidden,
            word_dropout=o.word_dropout,
            unknown_id=self.words.tokenizer.unknown_id,
            **o.stack(cell),
        )

    def summary(self) -> str:
        text = f"{super().summary()}, {self.words.vocab_size} kinds of word, {len(self.tags)} tags"
        return text if self.labels is None else f"{text}, {len(self.labels)} labels"

    # What it is judged by

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        return model.loss(**_known(batch))

    def measure(self, model: Any, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        sums, _ = super().measure(model, batch, state)
        given = _known(batch)
        tags, label = model.decode(*_read(given))
        return {**sums, **self._counts(tags, label, given)}, None

    def _counts(self, tags: Any, label: Any, given: dict[str, Any]) -> dict[str, float]:
        """What answers, tags [T, B] and label [B] or None, add to the sums."""
        lengths, wanted = given["x_lengths"], given["tags"]
        sums = accuracy_counts(tags, wanted, lengths)
        found, right = (named(t, self.tags.names, lengths) for t in (tags, wanted))
        if self.found["bio"]:
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
        found = {**super().scores(sums), "accuracy": accuracy(sums)}
        return found | self._shared_scores(sums)

    def _shared_scores(self, sums: dict[str, float]) -> dict[str, float]:
        found: dict[str, float] = {}
        if self.found["bio"]:
            found |= {f"span_{name}": value for name, value in span_scores(sums).items()}
        if self.labels is not None:
            label = {"correct": sums["label_correct"], "compared": sums["label_compared"]}
            found["label_accuracy"] = accuracy(label)
            found["frame_accuracy"] = sums["frames_correct"] / max(sums["frames"], 1)
        return found

    def judge(self, scores: dict[str, float]) -> float:
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
            for name, value in self._counts(best[given["x"]], label, given).items():
                sums[name] = sums.get(name, 0.0) + value
        scores = {"accuracy": accuracy(sums), **self._shared_scores(sums)}
        return {"name": "each word's commonest tag", **scores}

    # The end

    def load(self, cell: type[Cell]) -> "TrainedTagger":
        return TrainedTagger(self.run, self.options, load_best(self, cell), self)

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained = self.load(cell)
        examples = self.final_scores(trained, console)
        counts = np.zeros((len(self.tags), len(self.tags)))
        for rows in batched(examples, 64):
            given = _known(collate(rows))
            wanted = given.pop("tags")
            given.pop("label", None)
            tags, _ = trained.model.decode(
                given.pop("x"), lengths := given.pop("x_lengths"), **given
            )
            inside = torch.arange(len(wanted))[:, None] < lengths
            np.add.at(counts, (wanted[inside].numpy(), tags[inside].numpy()), 1)
        folder = self.run.folder
        draw_confusion(folder / "confusion.png", counts, self.tags.names)
        own = cell_argument(self.options.cell)
        shown = f"{folder / 'curves.png'}, {folder / 'confusion.png'}"
        for line in (f"see:    {shown}", f'more:   elman predict {folder}{own} "..."'):
            console.print(line, highlight=False, markup=False)


@dataclass(frozen=True)
class TrainedTagger(TrainedOnExamples):
    """A trained tagger."""

    model: Tagger
    task: Tagging

    def parse(self, text: str) -> list[str]:
        """The words of a line: what stands between white space."""
        return text.split()

    def inputs(self, file: str | Path) -> Iterator[list[str]]:
        """The words of the sentences in a file like those trained on, or one a line (.txt)."""
        if Path(file).suffix == ".txt":
            return (line.split() for line in read_lines(Path(file), self.options.encoding))
        return (sentence.words for sentence in self.task.read([str(file)]))

    def predict(self, inputs: Iterable[Sequence[str]], *, batch_size: int = 64) -> Iterator[Answer]:
        """For the words of each sentence their tags, and its label."""
        for several in batched(inputs, batch_size):
            given = _known(collate([self.task.encode_words(words) for words in several]))
            lengths = given["x_lengths"]
            tags, _ = self.model.decode(*_read(given))
            shares, label_shares = self.model.probabilities(*_read(given))
            certain = shares.gather(-1, tags[..., None])[..., 0]
            for b, found in enumerate(named(tags, self.task.tags.names, lengths)):
                p = certain[: len(found), b].tolist()
                label = None if label_shares is None else label_shares[b]
                yield self._answer(list(several[b]), found, p, label)

    def _answer(
        self, words: list[str], tags: list[str], p: list[float], label_shares: Any
    ) -> Answer:
        record: dict[str, Any] = {"words": words, "tags": tags, "probabilities": p}
        text = " ".join(f"{word}/{tag}" for word, tag in zip(words, tags, strict=True))
        if self.task.found["bio"]:
            record["spans"] = [
                {
                    "type": s.type,
                    "begin": s.begin,
                    "end": s.end,
                    "text": " ".join(words[s.begin : s.end]),
                }
                for s in spans(tags)
            ]
        if label_shares is not None and self.task.labels is not None:
            best = int(label_shares.argmax())
            record["label"] = self.task.labels.names[best]
            record["label_probability"] = float(label_shares[best])
            text = f"{record['label']}\t{text}"
        return Answer(text, record)


def _read(given: dict[str, Any]) -> tuple[Any, ...]:
    """What the model reads of it: words, lengths, letters."""
    return tuple(given.get(name) for name in ("x", "x_lengths", "characters", "word_lengths"))


def _known(batch: Batch) -> dict[str, Any]:
    return {name: batch.tensors[name] for name in COLUMNS if name in batch.tensors}
