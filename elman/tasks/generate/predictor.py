"""A trained generator: writing, reconstructing, between two inputs."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elman.data.core.batch import Batch
from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.data.text.corpus import ProgressCallback
from elman.errors import OptionError, require_positive
from elman.models.common.latent import interpolate
from elman.models.common.loss import Loss
from elman.models.common.sampling import check_sampling, seeded
from elman.models.decoding import Decoding, Hypothesis, decode
from elman.tasks.base.example_predictor import ExamplePredictor, answered, batched
from elman.tasks.base.figures import draw_sheet
from elman.tasks.base.prediction import Prediction
from elman.tasks.generate.options import GenerateOptions
from elman.tasks.generate.processor import GenerateProcessor
from elman.tasks.generate.scores import bound_parts, independent_nats, labels_of, tighter_bound

AT_ONCE = 64


@dataclass(frozen=True)
class SequenceGenerator(ExamplePredictor):
    """A trained model that writes texts, or series [T, F] of numbers."""

    options: GenerateOptions
    model: Any
    processor: GenerateProcessor

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that it writes for, the most frequent first; none with a latent variable, and
        none where they are vectors."""
        return self.processor.conditioning.names if self.options.conditional else ()

    @property
    def decoding(self) -> Decoding:
        """The likeliest unit at each step; no text of the training data is empty."""
        return Decoding(min_length=1, max_length=self.processor.length)

    def generate(
        self,
        count: int = 10,
        length: int | None = None,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        label: str | None = None,
    ) -> Iterator[Any]:
        """Texts, or series [T, F] of numbers, from draws of the latent variable or for a label.

        length: of series; of texts the most units. None: the median of the training part, of
        texts the longest there. temperature: 0 takes the likeliest item at each step. seed: the
        same writes the same; None draws others every time. label: of a conditional model, or a
        vector as text, "0.3 -1.2"; None draws labels as often as they are in training, vectors
        with the mean and the deviation that they have there.

        Raises OptionError.
        """
        require_positive(count=count)
        check_sampling(temperature, None, None)
        generator = seeded(seed)
        for several in batched(range(count), AT_ONCE):
            vectors = self._drawn(len(several), label, generator)
            yield from self._written(vectors, length, temperature, generator)

    def _drawn(self, count: int, label: str | None, generator: torch.Generator) -> Tensor:
        """What so many sequences are written from."""
        if not self.options.conditional:
            if label is not None:
                raise OptionError(
                    f"{self.run.folder}: was trained without labels, so it cannot write for "
                    f"'{label}'; train with --conditional"
                )
            return self.model.prior(count, generator)
        conditioning = self.processor.conditioning
        if label is None:
            return conditioning.drawn(count, generator)
        return conditioning.tensor([label] * count)

    def _written(
        self,
        vectors: Tensor,
        length: int | None = None,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[Any]:
        """A sequence for each vector."""
        length = self.processor.length if length is None else length
        require_positive(length=length)
        inputs = self.processor.inputs
        if inputs.units is None:
            x, _ = self.model.generate(
                vectors, length, temperature=temperature, generator=generator
            )
            return [inputs.decode(x[:, i].numpy()) for i in range(len(vectors))]
        # No text of the training data is empty.
        decoding = Decoding(temperature=temperature, min_length=1, max_length=length)
        found = self._texts(vectors, decoding, generator)
        return [inputs.decode(best.content) for best, *_ in found]

    def _texts(
        self, vectors: Tensor, decoding: Decoding, generator: torch.Generator | None
    ) -> list[list[Hypothesis]]:
        """The n_best texts of each vector."""
        units = self.processor.inputs.units
        assert units is not None
        unseen = units.tokenizer.unknown_id
        with torch.inference_mode():
            return decode(
                self.model.step,
                self.model.start_state(vectors),
                batch_size=len(vectors),
                start=units.end_id,
                end=units.end_id,
                decoding=decoding,
                exclude=[] if unseen is None else [unseen],
                generator=generator,
            )

    def line(self, found: Any) -> str:
        """What was written, in a line for people."""
        return self.processor.inputs.line(found)

    def record(self, found: Any) -> dict[str, Any]:
        """What was written, for programs."""
        return {"text": found} if isinstance(found, str) else {"series": found.tolist()}

    def save(self, written: Iterator[Any], out: Path) -> None:
        """Draw series; OptionError for texts."""
        first = next(written)
        if isinstance(first, str):
            raise OptionError(f"{out}: texts are not drawn; leave --out away, or take --json")
        draw_sheet(out, [("", row) for row in batched(chain([first], written), 10)])

    # From inputs

    def parse(self, text: str) -> Any:
        return text.strip() if self.options.conditional else self.processor.inputs.parse(text)

    def read_inputs(self, file: str | Path) -> Iterator[Any]:
        """The texts or series in a file; of a conditional model the labels."""
        if self.options.conditional:
            return (record.label for record in self.processor.read([str(file)]))
        more = self.processor.embedded
        return self.processor.inputs.read(file, self.options, labelled=False, **more)

    def predict(
        self,
        inputs: Iterable[Any],
        *,
        decoding: Decoding | None = None,
        seed: int | None = None,
        batch_size: int = AT_ONCE,
    ) -> Iterator[Prediction]:
        """Each input as the model writes it again from the mean of its latent variable, which the
        record holds; of a conditional model the inputs are labels.

        log_probability in the record is that of what was written, given the vector that it was
        written from, in nats; of normal numbers the density of the scaled ones.
        decoding: of texts, as `elman.models.decoding.Decoding`; the likeliest unit at each step
        where not given. seed: of what is drawn.
        """
        if decoding is not None and self.processor.inputs.units is None:
            raise OptionError(
                "series of numbers take no options of decoding: each number is its likeliest one; "
                f"draw with elman sample {shlex.quote(str(self.run.folder))}"
            )
        generator = seeded(seed)

        def answer(several: list[Any]) -> Iterator[Prediction]:
            return self._answers(several, decoding, generator)

        return answered(inputs, batch_size, _is_empty, answer)

    def _answers(
        self, several: list[Any], decoding: Decoding | None, generator: torch.Generator
    ) -> Iterator[Prediction]:
        if self.options.conditional:
            vectors = self.processor.conditioning.tensor(several)
            lengths = [self.processor.length] * len(several)
            about = [{"label": name} for name in several]
        else:
            vectors = self.encode(several)
            lengths = [len(self.processor.inputs.encode(value)) for value in several]
            about = [{"latent": z.tolist()} for z in vectors]
        if self.processor.inputs.units is None:
            return self._series_answers(vectors, lengths, about)
        if decoding is None:
            longest = max(self.processor.length, *lengths)
            decoding = Decoding(min_length=1, max_length=longest)
        found = self._texts(vectors, decoding, generator)
        return map(self._text_answer, found, about)

    def _text_answer(self, found: list[Hypothesis], about: dict[str, Any]) -> Prediction:
        texts = [self.processor.inputs.decode(one.content) for one in found]
        several = [
            {"text": text, "log_probability": one.log_probability}
            for text, one in zip(texts, found, strict=True)
        ]
        more = {"n_best": several} if len(several) > 1 else {}
        return Prediction("\n".join(texts), {**several[0], **about, **more})

    def _series_answers(
        self, vectors: Tensor, lengths: list[int], about: list[dict[str, Any]]
    ) -> Iterator[Prediction]:
        steps = torch.tensor(lengths)
        with torch.inference_mode():
            x, _ = self.model.generate(vectors, max(lengths), temperature=0.0)
            given = self.model.vector(vectors) if self.options.conditional else vectors
            _, log_p = self.model.decoder(x, given, steps)
        for i, length in enumerate(lengths):
            found = self.processor.inputs.decode(x[:length, i].numpy())
            record = {"series": found.tolist(), "log_probability": float(log_p[i])}
            yield Prediction(self.line(found), {**record, **about[i]})

    def encode(self, inputs: Sequence[Any]) -> Tensor:
        """The means of q(z | x): [N, latent]. OptionError for a model without z."""
        if self.options.conditional:
            raise OptionError(f"{self.run.folder}: writes from labels, not from a latent variable")
        batch = collate([{"x": self.processor.inputs.encode(value)} for value in inputs]).tensors
        with torch.inference_mode():
            mean, _ = self.model.encode(batch["x"], batch["x_lengths"])
        return mean

    def between(self, a: Any, b: Any, steps: int = 10) -> list[Any]:
        """The likeliest sequences along the straight line from one input to another."""
        first, last = self.encode([a, b])
        return self._written(interpolate(first, last, steps))

    def overview(self, given: Sequence[Any], seed: int) -> list[tuple[str, list[Any]]]:
        """What to look at first: draws, inputs as they are written again, what lies between."""
        if self.options.conditional:
            names = self.processor.conditioning.shown
            return [(name, list(self.generate(10, seed=seed, label=name))) for name in names]
        again = self._written(self.encode(given))
        rows = [("drawn", list(self.generate(20, seed=seed)))]
        if self.processor.inputs.units is None:
            rows = [("drawn", rows[0][1][:10]), ("drawn", rows[0][1][10:])]
            rows += [("given", list(given)), ("again", again)]
        else:
            pairs = [f"{a}\t{b}" for a, b in zip(given, again, strict=True)]
            rows += [("given, and again", pairs)]
        ends = zip(given[::2], given[1::2], strict=False)
        return rows + [("between", self.between(a, b)) for a, b in list(ends)[:3]]

    # Scores

    def loss(self, batch: Batch, state: Any) -> Loss:
        t = batch.tensors
        if not self.options.conditional:
            return self.model.loss(t["x"], t["x_lengths"], self.options.beta)
        # Over sequences, as with a latent variable, so that the losses can be compared.
        total = self.model.loss(labels_of(t), t["x"], t["x_lengths"]).total
        return Loss(total, t["x"].shape[1])

    def measure(self, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        x, lengths = batch.tensors["x"], batch.tensors["x_lengths"]
        items = lengths.sum() + self.model.decoder.items.ends * len(lengths)
        sums = {"count": float(len(lengths)), "items": float(items)}
        if self.options.conditional:
            return {**sums, "total": float(self.loss(batch, state).total)}, None
        parts = bound_parts(self.model, x, lengths, self.options.seed)
        return {**sums, **parts, "total": parts["reconstruction"] + parts["kl"]}, None

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        names = [name for name in ("reconstruction", "kl") if name in sums]
        parts = {f"{name}_nats": sums[name] / max(sums["count"], 1) for name in names}
        each = sums["total"] / max(sums["items"], 1)
        return {**super().scores(sums), **parts, self._each: each}

    @property
    def _each(self) -> str:
        return f"nats_per_{'token' if self.processor.kind == 'text' else 'frame'}"

    def score(self, examples: Examples, report: ProgressCallback | None = None) -> dict[str, Any]:
        """The scores, and `tighter_bound`: an upper bound as the loss is, and tighter."""
        scores = super().score(examples, report)
        if self.options.conditional or not self.options.importance:
            return scores
        bound = tighter_bound(self.model, examples, self.options, report)
        return {**scores, "bound_nats": bound}

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """Items that know nothing of each other."""
        loss, each = independent_nats(self.processor.independent, examples)
        return {"name": "independent items", "loss_nats": loss, self._each: each}


def _is_empty(value: Any) -> bool:
    """Whether a text, a label or a series has nothing in it."""
    return not (value.strip() if isinstance(value, str) else len(value))
