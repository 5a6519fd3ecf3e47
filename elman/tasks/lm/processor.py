"""A text as numbers: its units, and its parts."""

from typing import Any

from elman.data.core.files import RESTORE
from elman.data.text.blocks import Text
from elman.data.text.corpus import (
    Part,
    ProgressCallback,
    encode_part,
    fit_tokenizer,
    require_enough,
)
from elman.data.text.tokenizer import Tokenizer
from elman.data.text.tokenizers import load_tokenizer, tokenizer_class
from elman.errors import DataError, RunError
from elman.tasks.lm.options import LanguageModelOptions
from elman.train.processor import Processor


class LanguageProcessor(Processor[LanguageModelOptions]):
    """The units of a text, and its parts as numbers."""

    def fit(self, report: ProgressCallback) -> dict[str, Any]:
        """Fit the units, and write the text as numbers. Returns the `metadata`."""
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

    @property
    def tokenizer(self) -> Tokenizer:
        """The units of text."""
        return self.once("tokenizer", lambda: load_tokenizer(self.run.tokenizer_file))

    @property
    def line_end(self) -> int | None:
        """The unit that ends a line; None where there is no one such unit."""
        ids = self.tokenizer.encode("\n")
        known = len(ids) == 1 and ids[0] != self.tokenizer.unknown_id
        return int(ids[0]) if known else None

    @property
    def prompt(self) -> str:
        """What a text begins with where nothing else is asked for."""
        return self.fact("prompt", str)

    def part(self, name: str) -> Part:
        """The "train" or the "valid" part, as it was encoded."""
        part = self.fact(name, Part)
        if part.tokens < 2 or part.characters < 1:
            raise RunError(f"{self.run.config_file}: the {name} part is empty; {RESTORE}")
        return part


def _require_enough(train: Part, valid: Part, options: LanguageModelOptions) -> None:
    require_enough(train.tokens, options.batch_size, options.bptt, "the training part")
    if valid.tokens < 2:
        raise DataError(
            f"the validation part has {valid.tokens} tokens and needs 2 or more; give a larger "
            "--valid-fraction, or a file with --valid"
        )
