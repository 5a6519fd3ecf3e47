"""A trained language model: writing, evaluated."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from elman.data.corpus import Report
from elman.data.text import Text
from elman.data.tokenizer import Tokenizer
from elman.errors import DataError, OptionError
from elman.models import LanguageModel
from elman.models.sampling import check_sampling
from elman.tasks.trained import Trained
from elman.train.task import perplexity


@dataclass(frozen=True)
class WrittenLanguage(Trained):
    """A trained language model with its units of text.

    prompt: what a text begins with where nothing else is asked for.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    prompt: str

    def write(
        self,
        prompt: str | None = None,
        length: int = 500,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Iterator[str]:
        """What the model writes after the prompt, piece by piece.

        prompt: None begins with `prompt`, a line end where the model knows one. length: in
        tokens. temperature, top_k, top_p: see `elman.models.sampling.sample`. seed: the same
        writes the same; None draws another every time.
        """
        decoder = self.tokenizer.decoder()
        for token, _ in self._tokens(prompt, length, temperature, top_k, top_p, seed):
            if piece := decoder.push(token):
                yield piece
        yield decoder.end()

    def write_scored(
        self,
        prompt: str | None = None,
        length: int = 500,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Iterator[tuple[str, float]]:
        """The tokens that `write` writes, each with its probability: see
        `LanguageModel.generate_scored`."""
        for token, log_p in self._tokens(prompt, length, temperature, top_k, top_p, seed):
            yield self.tokenizer.symbol(token), math.exp(log_p)

    def _tokens(
        self,
        prompt: str | None,
        length: int,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        seed: int | None,
    ) -> Iterator[tuple[int, float]]:
        check_sampling(temperature, top_k, top_p)
        if length < 0:
            raise OptionError(f"length must be 0 or above, got {length}")
        prompt = self.prompt if prompt is None else prompt
        if not prompt:
            raise OptionError("the prompt is empty; give at least one character")
        ids = torch.from_numpy(self.tokenizer.require_known(prompt))
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        yield from self.model.generate_scored(
            ids,
            length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            exclude=() if self.tokenizer.unknown_id is None else [self.tokenizer.unknown_id],
            generator=generator,
        )

    def evaluate(
        self,
        files: str | Path | Sequence[str | Path],
        report: Report | None = None,
        chunk: int = 256,
    ) -> dict[str, Any]:
        """The loss on whole files, from the first token to the last with the state carried.

        Returns loss_nats (a token), bits_per_char, perplexity_per_token, perplexity_per_word, and
        the counts of tokens, characters, words and unknown tokens. The first token is given,
        and its characters are not among those that the bits are shared by.
        report: called with how far it is. chunk: tokens at a time; it changes no result.
        """
        texts = [files] if isinstance(files, str | Path) else files
        if not texts:
            raise OptionError("a language model is measured on a text: name its file")
        text = Text(texts, strict=self.options.tokenizer != "byte")
        total, tokens, characters, words, unseen, given = 0.0, 0, 0, 0, 0, 0
        size = sum(Path(file).stat().st_size for file in texts)
        state: Any = None
        last = torch.empty(0, dtype=torch.long)
        for block in text.blocks():
            ids = torch.from_numpy(self.tokenizer.encode(block))
            if self.tokenizer.unknown_id is not None:
                unseen += int((ids == self.tokenizer.unknown_id).sum())
            if not given:
                given = len(self.tokenizer.decode(ids[:1].tolist()))
            ids = torch.cat((last, ids))
            for begin in range(0, len(ids) - 1, chunk):
                part = ids[begin : begin + chunk + 1, None]
                with torch.inference_mode():
                    loss = self.model.loss(part[:-1], part[1:], state)
                state = loss.state
                total += loss.total.item()
                tokens += len(part) - 1
                if report is not None:
                    share = (begin + len(part)) / len(ids) * len(block)
                    report("evaluating", int(characters + share), size)
            last = ids[-1:]
            characters += len(block)
            words += len(block.split())
        if tokens == 0:
            raise DataError(
                f"{texts[0]}: one token cannot be predicted from nothing; give more text"
            )
        return {
            "loss_nats": total / tokens,
            "bits_per_char": total / max(characters - given, 1) / math.log(2),
            "perplexity_per_token": perplexity(total / tokens),
            "perplexity_per_word": perplexity(total / max(words, 1)),
            "tokens": tokens,
            "characters": characters,
            "words": words,
            "unknown_tokens": unseen,
        }
