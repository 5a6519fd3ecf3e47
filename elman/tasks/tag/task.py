"""`elman train tag`: a sequence in, a tag for each of its steps out."""

from typing import Any

import numpy as np
import torch
from rich.console import Console

from elman.cells import Cell
from elman.data.core.batches import collate
from elman.data.core.records import RecordSource
from elman.data.embedded import embedded_file
from elman.models.text.spans import forbidden_by_bio
from elman.models.text.tagger import Tagger
from elman.tasks.base.example_predictor import batched
from elman.tasks.base.example_task import ExampleTask
from elman.tasks.base.figures import draw_confusion
from elman.tasks.tag.options import TagOptions
from elman.tasks.tag.predictor import TagPredictor
from elman.tasks.tag.processor import TagProcessor, known, to_read
from elman.train.custom_cell import cell_class


class Tagging(ExampleTask[TagOptions]):
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
    processor_type = TagProcessor
    processor: TagProcessor
    predictor_type = TagPredictor
    unit = "token"

    # From files to a model

    @classmethod
    def check(cls, options: TagOptions, files: list[str]) -> None:
        super().check(options, files)
        size = {"vocab_size": 2, "character_vocab_size": 2 if options.characters else None}
        _model(options, cell_class(options.cell), num_tags=2, num_labels=2, unknown_id=1, **size)

    def sources(self) -> dict[str, RecordSource[Any]]:
        parts = super().sources()
        if not self.processor.files and not self.options.test:
            parts["test"] = self.processor.read([embedded_file("protein.test.conll.gz")])
        return parts

    def build(self, cell: type[Cell]) -> Tagger:
        p = self.processor
        rules = forbidden_by_bio(p.tags.names) if self.options.crf and p.bio else (None, None)
        return _model(
            self.options,
            cell,
            num_tags=len(p.tags),
            num_labels=None if p.labels is None else len(p.labels),
            vocab_size=p.words.vocab_size,
            unknown_id=p.words.tokenizer.unknown_id,
            character_vocab_size=None if p.letters is None else p.letters.vocab_size,
            forbidden_transitions=rules[0],
            forbidden_starts=rules[1],
        )

    def summary(self) -> str:
        p = self.processor
        text = f"{super().summary()}, {p.words.vocab_size} kinds of word, {len(p.tags)} tags"
        return text if p.labels is None else f"{text}, {len(p.labels)} labels"

    # Scores

    def monitor(self, scores: dict[str, float]) -> float:
        """By whole frames where there are labels, else by spans, else by tags."""
        for name in ("frame_accuracy", "span_f1"):
            if name in scores:
                return -scores[name]
        return -scores["accuracy"]

    def show(self, scores: dict[str, float]) -> str:
        hidden = ("span_precision", "span_recall")
        return super().show({k: v for k, v in scores.items() if k not in hidden})

    def finish(self, cell: type[Cell], console: Console) -> None:
        trained, p = self.load(cell), self.processor
        examples = self.final_scores(trained, console)
        counts = np.zeros((len(p.tags), len(p.tags)))
        for rows in batched(examples, 64):
            given = known(collate(rows))
            wanted, lengths = given["tags"], given["x_lengths"]
            tags, _ = trained.model.decode(*to_read(given))
            inside = torch.arange(len(wanted))[:, None] < lengths
            np.add.at(counts, (wanted[inside].numpy(), tags[inside].numpy()), 1)
        draw_confusion(self.run.folder / "confusion.png", counts, p.tags.names)
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
