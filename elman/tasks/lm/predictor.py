"""A trained language model: writing, evaluated."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from elman.data.core.batch import Batch
from elman.data.core.batches import collate
from elman.data.core.lines import read_lines
from elman.data.text.blocks import Text
from elman.data.text.corpus import ProgressCallback
from elman.data.text.tokenizer import Tokenizer
from elman.errors import DataError, OptionError
from elman.models import LanguageModel
from elman.models.common.loss import Loss
from elman.models.common.sampling import check_sampling, seeded
from elman.models.decoding import Decoding, Hypothesis, decode
from elman.models.text.dynamic import Dynamic, DynamicModel
from elman.tasks.base.example_predictor import answered
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.predictor import Predictor
from elman.tasks.lm.options import LanguageModelOptions
from elman.tasks.lm.processor import LanguageProcessor
from elman.tasks.lm.scores import (
    language_scores,
    measure_of,
    pieces_of_part,
    pieces_of_text,
    report_to,
    segments,
    validation_scores,
)


@dataclass(frozen=True)
class TextGenerator(Predictor):
    """A trained language model with its units of text."""

    options: LanguageModelOptions
    model: LanguageModel
    processor: LanguageProcessor

    @property
    def tokenizer(self) -> Tokenizer:
        """The units of text."""
        return self.processor.tokenizer

    @property
    def prompt(self) -> str:
        """What a text begins with where nothing else is asked for."""
        return self.processor.prompt

    @property
    def decoding(self) -> Decoding:
        """The likeliest unit at each step."""
        return Decoding()

    def generate(
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
        tokens. temperature, top_k, top_p: see `elman.models.common.sampling.sample`. seed: the same
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
        """The tokens that `generate` writes, each with its probability: see
        `LanguageModel.generate_scored`."""
        for token, log_p in self._tokens(prompt, length, temperature, top_k, top_p, seed):
            yield self.tokenizer.symbol(token), math.exp(log_p)

    def scored(
        self,
        prompt: str | None = None,
        length: int = 500,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> dict[str, Any]:
        """What `generate` writes as a record: prompt, text, tokens, and the probability of each."""
        written = list(self._tokens(prompt, length, temperature, top_k, top_p, seed))
        return {
            "prompt": self.prompt if prompt is None else prompt,
            "text": self.tokenizer.decode(token for token, _ in written),
            "tokens": [self.tokenizer.symbol(token) for token, _ in written],
            "probabilities": [math.exp(log_p) for _, log_p in written],
        }

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
        yield from self.model.generate_scored(
            ids,
            length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            exclude=() if self.tokenizer.unknown_id is None else [self.tokenizer.unknown_id],
            generator=seeded(seed),
        )

    # From inputs

    def parse(self, text: str) -> str:
        """The line itself; DataError where it holds what the model has never seen."""
        if text:
            self.tokenizer.require_known(text)
        return text

    def read_inputs(self, file: str | Path) -> Iterator[str]:
        """The lines of a text file."""
        return read_lines(Path(file))

    def predict(
        self,
        inputs: Iterable[str],
        *,
        decoding: Decoding | None = None,
        seed: int | None = None,
        batch_size: int = 64,
    ) -> Iterator[Prediction]:
        """How each text goes on, to the end of its line where the model knows line ends.

        decoding: as `elman.models.decoding.Decoding`; the likeliest unit at each step where not
        given. seed: of what is drawn; None draws others every time. The record holds the
        `tokens` that were written and the probability of each.
        """
        how = decoding or self.decoding
        answers = partial(self._answers, how=how, generator=seeded(seed) if how.draws else None)
        return answered(inputs, batch_size, lambda text: not text, answers)

    def _answers(
        self, texts: list[str], how: Decoding, generator: torch.Generator | None
    ) -> Iterator[Prediction]:
        prompts = [self.tokenizer.require_known(text) for text in texts]
        batch = collate([{"x": ids[:-1]} for ids in prompts]).tensors
        unseen = self.tokenizer.unknown_id
        with torch.inference_mode():
            state = None
            if len(batch["x"]):
                _, state = self.model(batch["x"], lengths=batch["x_lengths"])
            found = decode(
                self.model.step,
                state,
                batch_size=len(texts),
                start=torch.tensor([int(ids[-1]) for ids in prompts]),
                end=self.processor.line_end,
                decoding=how,
                exclude=[] if unseen is None else [unseen],
                generator=generator,
            )
        return map(self._answer, texts, found)

    def _answer(self, prompt: str, found: list[Hypothesis]) -> Prediction:
        several = [
            {
                "text": self.tokenizer.decode(one.content),
                "log_probability": one.log_probability,
                "tokens": [self.tokenizer.symbol(i) for i in one.tokens],
                "probabilities": [math.exp(p) for p in one.log_probabilities],
            }
            for one in found
        ]
        record: dict[str, Any] = {"prompt": prompt, **several[0]}
        if len(several) > 1:
            record["n_best"] = several
        return Prediction("\n".join(f"{prompt}{one['text']}" for one in several), record)

    # Scores

    def loss(self, batch: Batch, state: Any) -> Loss:
        return self.model.loss(**batch.tensors, state=state)

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        return validation_scores(super().scores(sums)["loss_nats"], self.processor.part("valid"))

    def evaluate(
        self,
        files: str | Path | Sequence[str | Path] = (),
        report: ProgressCallback | None = None,
        chunk: int = 256,
        *,
        dynamic: Dynamic | None = None,
    ) -> dict[str, Any]:
        """The loss on whole files, from the first token to the last with the state carried; on the
        run's own validation part where there are none.

        Returns loss_nats (a token), bits_per_char, perplexity_per_token, perplexity_per_word, and
        the counts of tokens, characters, words and unknown tokens. The first token is given,
        and its characters are not among those that the bits are shared by.
        report: called with how far it is. chunk: tokens at a time; it changes no result.
        dynamic: let a copy of the model learn from the text as it is read, never before it has
        predicted it.
        """
        texts = [files] if isinstance(files, str | Path) else list(files)
        if texts:
            text = Text(texts, strict=self.options.tokenizer != "byte")
            pieces = pieces_of_text(text, self.tokenizer)
            size = sum(Path(file).stat().st_size for file in texts)
        else:
            valid = self.processor.part("valid")
            pieces, size = pieces_of_part(valid, self.run.folder), valid.tokens
        measure = measure_of(self.model)
        if dynamic is not None:
            training = segments(self.processor.part("train"), self.run.folder, dynamic.segment)
            measure = DynamicModel(self.model, training, dynamic).loss
            chunk = dynamic.segment
        told = report_to(report, size)
        scores = language_scores(pieces, self.tokenizer, measure, chunk, told)
        if not scores["tokens"]:
            raise DataError(
                f"{texts[0]}: one token cannot be predicted from nothing; give more text"
            )
        return scores if texts else {**scores, "part": "valid"}
