"""`elman train lm`: a text in, a language model out."""

import math
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from elman.cells import Cell
from elman.data.core.batch import Batch, Batches
from elman.data.core.files import RESTORE, write_text
from elman.data.text.blocks import Text
from elman.data.text.byte_pairs import BPE_SAMPLE
from elman.data.text.corpus import (
    Part,
    ProgressCallback,
    Streams,
    encode_part,
    fit_tokenizer,
    require_enough,
)
from elman.data.text.tokenizer import Tokenizer
from elman.data.text.tokenizers import check_vocab_size, load_tokenizer, tokenizer_class
from elman.errors import (
    DataError,
    OptionError,
    RunError,
    require_positive,
    require_probability,
)
from elman.models import LanguageModel
from elman.models.common.loss import Loss
from elman.settings import option
from elman.tasks.lm.predictor import TextGenerator
from elman.train.custom_cell import cell_argument, cell_class
from elman.train.options import ModelOptions
from elman.train.task import Task, perplexity
from elman.train.weights import load_built


@dataclass(frozen=True)
class LanguageModelOptions(ModelOptions):
    """What `elman train lm` takes beside the files."""

    bptt: int = option(
        64, "Steps that the gradient flows back; the state is carried on.", "Optimisation"
    )
    tokenizer: str = option("char", "The units of text: byte, char, word or bpe.", "Text")
    vocab_size: int | None = option(
        None, "At most so many units. [dim]default: all; words 20000, bpe 4096[/]", "Text"
    )
    bpe_sample: int = option(
        BPE_SAMPLE, "Characters that bpe is learnt from at most, spread over all.", "Text"
    )
    valid: list[str] = option([], "Files to validate on, instead of the end of the text.", "Data")
    valid_fraction: float = option(0.1, "The last part of the text, kept for validation.", "Data")
    tie: bool = option(False, "One matrix for embedding and softmax.", "Model")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(bptt=self.bptt, bpe_sample=self.bpe_sample)
        check_vocab_size(self.tokenizer, self.vocab_size)
        require_probability(valid_fraction=self.valid_fraction)
        if not self.valid and not self.valid_fraction > 0:
            raise OptionError("valid_fraction must be above 0, or give files with --valid")


class LanguageModelling(Task[LanguageModelOptions]):
    """A text, read from end to end in streams side by side, with the state carried on."""

    name = "lm"
    title = "a language model"
    help = """Train a language model on text, and write with it.

    [bold]elman train lm[/]                                        the embedded text, 10 epochs
    [bold]elman train lm a.txt b.txt --minutes 10[/]               your own
    [bold]elman train lm --cell gru --cell-option update=replace[/]
    [bold]elman train lm --cell mine.py:MyCell[/]                  a cell of your own
    """
    files_help = "UTF-8 text, one file or many. [dim]default: Python's own documentation[/]"
    options_type = LanguageModelOptions
    unit = "token"

    # From text to a model

    @classmethod
    def check(cls, options: LanguageModelOptions, files: list[str]) -> None:
        _model(options, 2, cell_class(options.cell))

    def prepare(self, report: ProgressCallback) -> dict[str, Any]:
        """Learn the units, and write the text as numbers."""
        o, folder = self.options, self.run.folder
        strict = o.tokenizer != "byte"
        text, held_out = Text(self.files, strict), Text(o.valid, strict) if o.valid else None
        total = text.count()
        stop = total if held_out else int(total * (1 - o.valid_fraction))
        size = o.vocab_size or {"word": 20_000}.get(o.tokenizer)
        kind = tokenizer_class(o.tokenizer)
        tokenizer = fit_tokenizer(kind, text, stop, size, report, o.bpe_sample)
        train = encode_part(text.blocks(0, stop), tokenizer, folder, "data/train.bin", report, stop)
        rest = held_out.blocks() if held_out else text.blocks(stop)
        count = held_out.count() if held_out else total - stop
        valid = encode_part(rest, tokenizer, folder, "data/valid.bin", report, count)
        _require_enough(train, valid, o)
        tokenizer.save(self.run.tokenizer_file)
        return {
            "train": train.to_json(),
            "valid": valid.to_json(),
            "vocab_size": tokenizer.vocab_size,
            "prompt": self._first_prompt(train, tokenizer),
        }

    def _first_prompt(self, train: Part, tokenizer: Tokenizer) -> str:
        """A line end where the model knows one, else the first unit of the text that it knows."""
        ids = tokenizer.encode("\n")
        if tokenizer.unknown_id in ids:
            ids = train.ids(self.run.folder)
            ids = ids[ids != tokenizer.unknown_id]
        if not len(ids):
            raise DataError("no unit of the training part is in the vocabulary; raise --vocab-size")
        return tokenizer.decode(ids[:1].tolist())

    def build(self, cell: type[Cell]) -> LanguageModel:
        return _model(self.options, self.fact("vocab_size", int), cell)

    def _part(self, name: str) -> Part:
        part = self.fact(name, Part)
        if part.tokens < 2 or part.characters < 1:
            raise RunError(f"{self.run.config_file}: the {name} part is empty; {RESTORE}")
        return part

    def batches(self) -> tuple[Batches, Batches]:
        o = self.options
        train, valid = (self._part(name).ids(self.run.folder) for name in ("train", "valid"))
        # A short validation part is read in fewer streams rather than in ones without a past.
        wanted = max(1, len(valid) // (4 * o.bptt))
        rows = min(o.batch_size, wanted - wanted % o.processes or 1)
        return Streams(train, o.batch_size, o.bptt), Streams(valid, rows, o.bptt)

    def summary(self) -> str:
        train, valid = self._part("train"), self._part("valid")
        text = (
            f"{train.tokens:,} training and {valid.tokens:,} validation tokens of "
            f"{self.found['vocab_size']} kinds ({self.options.tokenizer})"
        )
        if train.unknown or valid.unknown:
            text += (
                f", of them outside the vocabulary and read as one: {train.unknown:,} in "
                f"training, {valid.unknown:,} in validation"
            )
        return text

    # Scores

    def loss(self, model: Any, batch: Batch, state: Any, progress: float) -> Loss:
        return model.loss(**batch.tensors, state=state)

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        valid = self._part("valid")
        nats = super().scores(sums)["loss_nats"]
        bits = nats / math.log(2) * valid.tokens / valid.characters
        found = {"loss_nats": nats, "bits_per_char": bits}
        if abs(valid.tokens / valid.characters - 1) > 0.01:
            found["perplexity"] = perplexity(nats)
        return found

    def show(self, scores: dict[str, float]) -> str:
        text = f"{scores['loss_nats']:.4f} nats  {scores['bits_per_char']:.3f} bits/char"
        if "perplexity" in scores:
            text += f"  perplexity {scores['perplexity']:,.1f}"
        return text

    # The end

    def load(self, cell: type[Cell]) -> TextGenerator:
        tokenizer = load_tokenizer(self.run.tokenizer_file)
        model = load_built(
            lambda: _model(self.options, tokenizer.vocab_size, cell), self.run.weights_file
        )
        prompt = self.fact("prompt", str)
        return TextGenerator(self.run, self.options, model.eval(), tokenizer, prompt)

    def finish(self, cell: type[Cell], console: Console) -> None:
        """Write what the best weights write, and print it."""
        loaded, folder = self.load(cell), self.run.folder
        sample = "".join(loaded.generate(length=1000, temperature=0.7, seed=self.options.seed))
        write_text(folder / "sample.txt", (loaded.prompt + sample).lstrip("\n") + "\n")
        console.rule(f"{folder / 'sample.txt'}, at temperature 0.7")
        console.print((folder / "sample.txt").read_text("utf-8"), markup=False, highlight=False)
        console.rule()
        more = f'elman sample {folder} --prompt "..."{cell_argument(self.options.cell)}'
        for line in (f"curves: {folder / 'curves.png'}", f"more:   {more}"):
            console.print(line, highlight=False, markup=False)


def _model(options: LanguageModelOptions, vocab_size: int, cell: type[Cell]) -> LanguageModel:
    return LanguageModel(
        vocab_size,
        options.hidden,
        options.layers,
        embedding_size=options.embedding,
        tie_weights=options.tie,
        **options.stack(cell),
    )


def _require_enough(train: Part, valid: Part, options: LanguageModelOptions) -> None:
    require_enough(train.tokens, options.batch_size, options.bptt, "the training part")
    if valid.tokens < 2:
        raise DataError(
            f"the validation part has {valid.tokens} tokens and needs 2 or more; give a larger "
            "--valid-fraction, or a file with --valid"
        )
