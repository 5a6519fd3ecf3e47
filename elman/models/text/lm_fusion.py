"""A language model as what a search over units asks: how likely is the next one?"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.layers.layer import map_state
from elman.models.decoding import select_rows
from elman.models.text.language_model import LanguageModel


class LanguagePrior:
    """A language model over its own V units: see `elman.models.audio.ctc.Prior`.

    tokens: [V], the model's token for each unit. prompt: [T] tokens before every text, T > 0. end:
    the token that ends a text; None: an end is as likely as not ending.
    """

    def __init__(
        self, model: LanguageModel, tokens: Tensor, prompt: Tensor, end: int | None = None
    ) -> None:
        self.model, self.tokens, self.prompt, self.end = model.eval(), tokens, prompt, end

    @torch.inference_mode()
    def first(self) -> tuple[NDArray[Any], NDArray[Any], Any]:
        """Before the first unit."""
        logits, state = self.model(self.prompt[:, None])
        return *self._split(logits[-1]), state

    @torch.inference_mode()
    def after(
        self, state: Any, rows: NDArray[Any], units: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], Any]:
        """After one unit more each."""
        chosen = select_rows(state, torch.from_numpy(rows))
        logits, state = self.model.step(self.tokens[torch.from_numpy(units)], chosen)
        return *self._split(logits), state

    def joined(self, first: Any, rows: NDArray[Any], second: Any) -> Any:
        """Rows of one state, and another."""
        kept = select_rows(first, torch.from_numpy(rows))
        if second is None:
            return kept
        others = _tensors(second)
        return map_state(lambda part: torch.cat((part, next(others))), kept)

    def _split(self, logits: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
        log_p = logits.double().log_softmax(dim=-1)
        end = np.zeros(len(log_p)) if self.end is None else log_p[:, self.end].numpy()
        return log_p[:, self.tokens].numpy(), end


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    else:
        for part in state:
            yield from _tensors(part)
