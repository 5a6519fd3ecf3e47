"""What trained models share that write a text for each input, by any way of decoding."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from elman.data.text.encoder import TextEncoder
from elman.data.text.tokenizer import Ids
from elman.models.common.sampling import seeded
from elman.models.decoding import Decoding, Hypothesis, decode
from elman.tasks.base.example_predictor import ExamplePredictor, answered
from elman.tasks.base.prediction import Prediction


@dataclass(frozen=True)
class Seq2SeqPredictor(ExamplePredictor):
    """A trained model whose `step` writes units of text, from a state that an input gives."""

    model: Any

    @property
    @abstractmethod
    def target(self) -> TextEncoder:
        """The units that are written."""

    @abstractmethod
    def is_empty(self, given: Any) -> bool:
        """Whether there is nothing in an input that could be answered."""

    @abstractmethod
    def begin(self, inputs: list[Any]) -> tuple[Any, Tensor | None, list[Any]]:
        """The state that the model starts from, the lengths of the sources where they differ, and
        what `answer` needs to know of each input."""

    @abstractmethod
    def answer(self, known: Any, record: dict[str, Any], text: str, best: Hypothesis) -> Prediction:
        """The answer to an input. record: of what was written; text: all of it, for people."""

    def predict(
        self,
        inputs: Iterable[Any],
        *,
        decoding: Decoding | None = None,
        seed: int | None = None,
        prefix: str = "",
        batch_size: int = 64,
    ) -> Iterator[Prediction]:
        """The texts that the model writes for these.

        decoding: as `elman.models.decoding.Decoding`; as `decoding` where not given. seed: of what
        is drawn; None draws others every time. prefix: what each text begins with; DataError where
        it holds what the model cannot write.
        """
        how = decoding or self.decoding
        generator = seeded(seed)
        answers = partial(
            self._answers,
            how=how,
            generator=generator if how.draws else None,
            prefix=self.target.require_known(prefix),
        )
        return answered(inputs, batch_size, self.is_empty, answers)

    def _answers(
        self, inputs: list[Any], how: Decoding, generator: torch.Generator | None, prefix: Ids
    ) -> Iterator[Prediction]:
        target = self.target
        unseen = target.tokenizer.unknown_id
        with torch.inference_mode():
            state, lengths, known = self.begin(inputs)
            found = decode(
                self.model.step,
                state,
                batch_size=len(inputs),
                start=target.start_id,
                end=target.end_id,
                decoding=how,
                prefix=torch.from_numpy(prefix)[:, None].expand(-1, len(inputs)),
                exclude=[target.start_id] + ([] if unseen is None else [unseen]),
                source_lengths=lengths,
                generator=generator,
            )
        for one, best in zip(known, found, strict=True):
            yield self._answer(one, best, how.n_best)

    def _answer(self, known: Any, found: list[Hypothesis], n_best: int) -> Prediction:
        written = [self.target.decode(one.content) for one in found]
        several = [
            {"text": t, "score": one.score, "log_probability": one.log_probability}
            for t, one in zip(written, found, strict=True)
        ]
        record = dict(several[0])
        if n_best > 1:
            record["n_best"] = several
        return self.answer(known, record, "\n".join(written), found[0])


def symbol(units: TextEncoder, index: int) -> str:
    """One unit for a picture."""
    special = {i: f"<{name}>" for name, i in units.special_ids.items()}
    return special.get(int(index)) or units.tokenizer.symbol(int(index))
