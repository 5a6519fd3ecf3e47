"""A trained transcriber: sounds in, texts out, whole or while they come."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from elman.data.audio.samples import Sound
from elman.data.core.batch import Batch
from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.data.core.records import SkipLog
from elman.data.text.corpus import ProgressCallback
from elman.errors import OptionError
from elman.models.audio.ctc import best_paths
from elman.models.audio.transcriber import Transcriber
from elman.models.common.scores import added
from elman.models.decoding import Decoding
from elman.models.text.lm_fusion import LanguagePrior
from elman.tasks.base.audio import as_sound, sounds_in
from elman.tasks.base.example_predictor import ExamplePredictor, batched
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.text_scores import transcript_counts, transcript_scores
from elman.tasks.transcribe.options import TranscribeOptions
from elman.tasks.transcribe.processor import TranscribeProcessor
from elman.tasks.transcribe.search import TextSearch
from elman.tasks.transcribe.stream import LiveTranscript


@dataclass(frozen=True)
class TranscribePredictor(ExamplePredictor):
    """A trained model from sound to text."""

    options: TranscribeOptions
    model: Transcriber
    processor: TranscribeProcessor

    @property
    def decoding(self) -> Decoding:
        """As for the scores at the end of training."""
        return Decoding(beams=TextSearch.of(self.options).width)

    def parse(self, text: str) -> Sound:
        """The sound in the file of this name."""
        return as_sound(text)

    def read_inputs(self, file: str | Path) -> Iterator[Sound]:
        """The sounds that a table names, or a folder holds; a sound itself."""
        return sounds_in(file, self.options)

    def predict(
        self,
        inputs: Iterable[Any],
        *,
        decoding: Decoding | None = None,
        lm: str | None = None,
        lm_weight: float | None = None,
        length_bonus: float | None = None,
        batch_size: int = 16,
    ) -> Iterator[Prediction]:
        """What is spoken in sounds: `Sound`, names of files, or (samples [N], Hz).

        decoding: its beams and n_best. lm, lm_weight, length_bonus: as in training where None.
        """
        search = self.search(decoding, lm=lm, lm_weight=lm_weight, length_bonus=length_bonus)
        answer = partial(self._answers, search=search, prior=search.prior(self.processor.units))
        # A sound may be long: no more at once than in training.
        for several in batched(map(as_sound, inputs), min(batch_size, self.options.batch_size)):
            notes = [SkipLog() for _ in several]
            encoded = [self._encoded(sound, n) for sound, n in zip(several, notes, strict=True)]
            answers = answer([x for x in encoded if x is not None])
            for sound, x, note in zip(several, encoded, notes, strict=True):
                yield _named(next(answers) if x is not None else None, sound, note)

    def search(self, decoding: Decoding | None = None, **said: Any) -> TextSearch:
        """How texts are searched for, with what was said."""
        given = {name: value for name, value in said.items() if value is not None}
        found = replace(TextSearch.of(self.options), **given)
        if decoding is None:
            return found
        if decoding != Decoding(beams=decoding.beams, n_best=decoding.n_best):
            raise OptionError(
                "a transcriber takes --beams and --n-best of the options of decoding, and --lm, "
                "--lm-weight and --length-bonus"
            )
        return replace(found, beams=decoding.beams, n_best=decoding.n_best)

    def evaluate(
        self,
        files: Any = (),
        report: ProgressCallback | None = None,
        *,
        beams: int | None = None,
        lm: str | None = None,
        lm_weight: float | None = None,
        length_bonus: float | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """As `ExamplePredictor.evaluate`; the search is as in training where None is said."""
        said = {"beams": beams, "lm": lm, "lm_weight": lm_weight, "length_bonus": length_bonus}
        given = {name: value for name, value in said.items() if value is not None}
        if not given:
            return super().evaluate(files, report, **more)
        processor = self.processor_with(**given)
        changed = replace(self, options=processor.options, processor=processor)
        return changed.evaluate(files, report, **more)

    def stream(self) -> LiveTranscript:
        """What is spoken while it is: see `LiveTranscript`."""
        return LiveTranscript(self.model, self.processor)

    def _encoded(self, sound: Sound, skipped: SkipLog) -> Any:
        return self.processor.audio(sound, skipped, self.options.skip_bad)

    def _answers(
        self, encoded: list[Any], search: TextSearch, prior: LanguagePrior | None
    ) -> Iterator[Prediction]:
        seconds = self.processor.audio.features.step_seconds
        for log_p, path in self._read(encoded):
            spoken = [
                {"unit": self._unit(unit), "seconds": round(step * seconds, 3)}
                for unit, step in path
            ]
            if search.greedy and search.n_best == 1:
                text = self.processor.units.decode(unit for unit, _ in path)
                yield Prediction(text, {"text": text, "units": spoken})
                continue
            found = [
                {"text": self.processor.units.decode(one.units), "score": one.score,
                 "log_probability": one.log_probability}
                for one in search(log_p.double().numpy(), prior)
            ]  # fmt: skip
            record = {**found[0], "units": spoken}
            if search.n_best > 1:
                record["n_best"] = found
            yield Prediction("\n".join(str(one["text"]) for one in found), record)

    def texts(self, encoded: Iterable[Any]) -> Iterator[str]:
        """The text of each [T, F] of scaled features, as it is scored."""
        search = TextSearch.of(self.options)
        prior = search.prior(self.processor.units)
        for several in batched(encoded, self.options.batch_size):
            yield from (answer.text for answer in self._answers(several, search, prior))

    def spoken(self, encoded: Iterable[Any]) -> Iterator[tuple[str, list[tuple[str, int]]]]:
        """Of each [T, F] of scaled features the text, and the units of the best path with the step
        that says each."""
        search = TextSearch.of(self.options)
        prior = search.prior(self.processor.units)
        for x in encoded:
            ((_, path),) = self._read([x])
            (answer,) = self._answers([x], search, prior)
            yield answer.text, [(self._unit(unit), step) for unit, step in path]

    def _read(self, encoded: list[Any]) -> Iterator[tuple[torch.Tensor, list[tuple[int, int]]]]:
        """[T, V + 1] of each, and its best path."""
        if not encoded:
            return
        t = collate([{"x": x} for x in encoded]).tensors
        with torch.inference_mode():
            log_p = self.processor.without_unknown(self.model(t["x"], t["x_lengths"]))
        paths = best_paths(log_p, t["x_lengths"], self.model.blank)
        for b, (path, length) in enumerate(zip(paths, t["x_lengths"].tolist(), strict=True)):
            yield log_p[:length, b], path

    def _unit(self, unit: int) -> str:
        return self.processor.units.tokenizer.symbol(unit)

    # Scores

    def measure(self, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        t, processor = batch.tensors, self.processor
        log_p = self.model(t["x"], t["x_lengths"])
        loss = self.model.loss_of(log_p, t["x_lengths"], t["y"], t["y_lengths"])
        sums = {"total": float(loss.total), "count": float(loss.count)}
        log_p = processor.without_unknown(log_p)
        paths = best_paths(log_p, t["x_lengths"], self.model.blank)
        found = [processor.units.decode(unit for unit, _ in path) for path in paths]
        return {**sums, **transcript_counts(found, processor.cased(batch.texts["text"]))}, None

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        return {**super().scores(sums), **transcript_scores(sums)}

    def score(self, examples: Examples, report: ProgressCallback | None = None) -> dict[str, Any]:
        """The loss, and how good the texts are that the search finds."""
        scores, cased = super().score(examples, report), self.processor.cased
        if TextSearch.of(self.options).greedy:
            return scores
        sums: dict[str, float] = {}
        texts = self.texts(row["x"] for row in examples)
        for number, (row, text) in enumerate(zip(examples, texts, strict=True), 1):
            sums = added(sums, transcript_counts([text], cased([str(row["text"])])))
            if report is not None:
                report("searching", number, len(examples))
        return {**scores, **transcript_scores(sums)}

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """The most frequent transcript of training; nothing at all where each came once."""
        text, cased = self.processor.most_frequent, self.processor.cased
        wanted = cased([str(row["text"]) for row in examples])
        sums = transcript_counts(cased([text]) * len(wanted), wanted)
        return {"name": f"always '{text}'" if text else "nothing", **transcript_scores(sums)}


def _named(answer: Prediction | None, sound: Sound, notes: SkipLog) -> Prediction:
    """The answer with the file that it is of, and what was done to it before it was heard."""
    if answer is None:
        return Prediction("", {"file": sound.where, "left_out": str(next(iter(notes.counts)))})
    record = {"file": sound.where, **answer.record}
    if notes.total:
        record["notes"] = list(notes.counts)
    return replace(answer, record=record)
