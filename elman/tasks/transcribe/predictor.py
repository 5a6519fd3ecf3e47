"""A trained transcriber: sounds in, texts out, whole or while they come."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from elman.data.audio.samples import Sound
from elman.data.core.batches import collate
from elman.data.core.records import SkipLog
from elman.data.text.corpus import ProgressCallback
from elman.data.text.encoder import TextEncoder
from elman.data.text.symbols import CharTokenizer
from elman.errors import OptionError
from elman.models.audio.ctc import Labelling, best_paths, prefix_search
from elman.models.audio.transcriber import Transcriber
from elman.models.decoding import Decoding
from elman.models.text.lm_fusion import LanguagePrior
from elman.tasks.base.audio import as_sound, sounds_in
from elman.tasks.base.examples import ExamplePredictor, batched
from elman.tasks.base.prediction import Prediction
from elman.tasks.transcribe.stream import LiveTranscript

if TYPE_CHECKING:
    from elman.tasks.transcribe.task import Transcription


@dataclass(frozen=True)
class TextSearch:
    """How a text is searched for.

        score(y) = ln p(y | x) + lm_weight ln p_lm(y) + length_bonus |y|

    beams: prefixes that are followed; None: 1, the likeliest unit of each step, and 16 with lm.
    lm: the folder of a run of `elman train lm` by characters. n_best: texts for each sound.
    """

    beams: int | None = None
    lm: str | None = None
    lm_weight: float = 0.5
    length_bonus: float = 0.0
    n_best: int = 1

    @property
    def greedy(self) -> bool:
        """Whether the likeliest unit of each step is taken."""
        return self.lm is None and (self.beams or 1) == 1 and not self.length_bonus

    @property
    def width(self) -> int:
        """The prefixes that are followed."""
        return self.beams or (1 if self.lm is None else 16)

    def language(self) -> Any:
        """The language model. Raises OptionError where it is none of characters."""
        from elman.tasks import load

        assert self.lm is not None
        found = load(self.lm)
        if not isinstance(getattr(found, "tokenizer", None), CharTokenizer):
            raise OptionError(
                f"{self.lm}: is no language model of characters; train one on transcripts, a line "
                "each: elman train lm transcripts.txt"
            )
        return found

    def prior(self, units: TextEncoder) -> LanguagePrior | None:
        """The language model over these units; what it does not know is its unknown character."""
        if self.lm is None:
            return None
        found = self.language()
        tokenizer = found.tokenizer
        symbols = [units.tokenizer.symbol(i) for i in range(units.vocab_size)]
        tokens = [int(tokenizer.encode(s)[0]) if len(s) == 1 else 0 for s in symbols]
        line = int(tokenizer.encode("\n")[0])
        prompt = torch.from_numpy(tokenizer.encode(found.prompt))
        end = None if line == tokenizer.unknown_id else line
        return LanguagePrior(found.model, torch.tensor(tokens), prompt, end)

    def __call__(self, log_p: Any, prior: LanguagePrior | None) -> list[Labelling]:
        """The best labellings of [T, V + 1]."""
        return prefix_search(
            log_p, self.width, prior=prior, weight=self.lm_weight, bonus=self.length_bonus,
            n_best=self.n_best,
        )  # fmt: skip


@dataclass(frozen=True)
class TranscribePredictor(ExamplePredictor):
    """A trained model from sound to text."""

    model: Transcriber
    task: "Transcription"

    @property
    def decoding(self) -> Decoding:
        """As for the scores at the end of training."""
        return Decoding(beams=self.options.search.width)

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
        answer = partial(self._answers, search=search, prior=search.prior(self.task.units))
        # A sound may be long: no more at once than in training.
        for several in batched(map(as_sound, inputs), min(batch_size, self.options.batch_size)):
            notes = [SkipLog() for _ in several]
            heard = [self._heard(sound, n) for sound, n in zip(several, notes, strict=True)]
            answers = answer([x for x in heard if x is not None])
            for sound, x, note in zip(several, heard, notes, strict=True):
                yield _named(next(answers) if x is not None else None, sound, note)

    def search(self, decoding: Decoding | None = None, **said: Any) -> TextSearch:
        """How texts are searched for, with what was said."""
        given = {name: value for name, value in said.items() if value is not None}
        found = replace(self.options.search, **given)
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
        task = type(self.task)(self.run, replace(self.options, **given))
        changed = replace(self, options=task.options, task=task)
        return changed.evaluate(files, report, **more)

    def stream(self) -> LiveTranscript:
        """What is spoken while it is: see `LiveTranscript`."""
        return LiveTranscript(self)

    def _heard(self, sound: Sound, skipped: SkipLog) -> Any:
        return self.task.hearing(sound, skipped, self.options.skip_bad)

    def _answers(
        self, heard: list[Any], search: TextSearch, prior: LanguagePrior | None
    ) -> Iterator[Prediction]:
        seconds = self.task.hearing.features.step_seconds
        for log_p, path in self._read(heard):
            spoken = [
                {"unit": self._unit(unit), "seconds": round(step * seconds, 3)}
                for unit, step in path
            ]
            if search.greedy and search.n_best == 1:
                text = self.task.units.decode(unit for unit, _ in path)
                yield Prediction(text, {"text": text, "units": spoken})
                continue
            found = [
                {"text": self.task.units.decode(one.units), "score": one.score,
                 "log_probability": one.log_probability}
                for one in search(log_p.double().numpy(), prior)
            ]  # fmt: skip
            record = {**found[0], "units": spoken}
            if search.n_best > 1:
                record["n_best"] = found
            yield Prediction("\n".join(str(one["text"]) for one in found), record)

    def texts(self, heard: Iterable[Any]) -> Iterator[str]:
        """The text of each [T, F] of scaled features, as it is scored."""
        search = self.options.search
        prior = search.prior(self.task.units)
        for several in batched(heard, self.options.batch_size):
            yield from (answer.text for answer in self._answers(several, search, prior))

    def spoken(self, heard: Iterable[Any]) -> Iterator[tuple[str, list[tuple[str, int]]]]:
        """Of each [T, F] of scaled features the text, and the units of the best path with the step
        that says each."""
        search = self.options.search
        prior = search.prior(self.task.units)
        for x in heard:
            ((_, path),) = self._read([x])
            (answer,) = self._answers([x], search, prior)
            yield answer.text, [(self._unit(unit), step) for unit, step in path]

    def _read(self, heard: list[Any]) -> Iterator[tuple[torch.Tensor, list[tuple[int, int]]]]:
        """[T, V + 1] of each, and its best path."""
        if not heard:
            return
        t = collate([{"x": x} for x in heard]).tensors
        with torch.inference_mode():
            log_p = self.task.without_unknown(self.model(t["x"], t["x_lengths"]))
        paths = best_paths(log_p, t["x_lengths"], self.model.blank)
        for b, (path, length) in enumerate(zip(paths, t["x_lengths"].tolist(), strict=True)):
            yield log_p[:length, b], path

    def _unit(self, unit: int) -> str:
        return self.task.units.tokenizer.symbol(unit)


def _named(answer: Prediction | None, sound: Sound, notes: SkipLog) -> Prediction:
    """The answer with the file that it is of, and what was done to it before it was heard."""
    if answer is None:
        return Prediction("", {"file": sound.where, "left_out": str(next(iter(notes.counts)))})
    record = {"file": sound.where, **answer.record}
    if notes.total:
        record["notes"] = list(notes.counts)
    return replace(answer, record=record)
