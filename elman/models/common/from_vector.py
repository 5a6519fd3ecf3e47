"""Sequences from a given vector or class: one to many."""

from typing import Any, Unpack

import torch
from torch import Tensor, nn

from elman.errors import ShapeError, require_positive
from elman.models.common.encoder import embedded
from elman.models.common.loss import Loss
from elman.models.common.vector_decoder import VectorDecoder, VectorDecoderOptions


class FromVector(nn.Module):
    """Writes a sequence that belongs to a vector, or to a class: p(x | v).

        p(x | v): see `VectorDecoder`        v = E c for a class c

    v: [B, vector_size], or [B] ids where num_classes is given
    x: [T, B] ids where vocab_size is given, else [T, B, input_size]
    vector_size: of v, or of the vector that stands for a class.
    options: see `VectorDecoder` and `StackOptions`.

    Raises OptionError. Source: Vinyals et al. 2015, Show and Tell, eqs. 1 and 2, with v fed at
    every step.
    """

    def __init__(
        self,
        vector_size: int,
        *,
        num_classes: int | None = None,
        **options: Unpack[VectorDecoderOptions],
    ) -> None:
        super().__init__()
        self.decoder = VectorDecoder(vector_size, **options)
        if num_classes is not None:
            require_positive(num_classes=num_classes)
        self.classes = None if num_classes is None else nn.Embedding(num_classes, vector_size)

    def forward(self, v: Tensor, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs at all steps, and log p(x | v) of each sequence: see `VectorDecoder.forward`."""
        return self.decoder(x, self.vector(v), lengths)

    def loss(self, v: Tensor, x: Tensor, lengths: Tensor | None = None) -> Loss:
        """-log p(x | v) in nats; its mean is taken over tokens, each end one of them, or frames."""
        _, log_prob = self(v, x, lengths)
        own = x.shape[0] * x.shape[1] if lengths is None else lengths.to(x.device).sum()
        return Loss(-log_prob.sum(), own + self.decoder.items.ends * len(log_prob))

    def vector(self, v: Tensor) -> Tensor:
        """The vectors that the decoder is given: v itself, or those of its classes."""
        if self.classes is None:
            return v
        if v.dim() != 1:
            raise ShapeError(f"classes must be ids [B], got {v.dtype} {list(v.shape)}")
        return embedded(self.classes, v)

    def start_state(self, v: Tensor) -> Any:
        """The state from which `step` writes what v says: see `VectorDecoder.start_state`."""
        return self.decoder.start_state(self.vector(v))

    def step(self, items: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One item more: see `VectorDecoder.step`."""
        return self.decoder.step(items, state)

    @torch.no_grad()
    def generate(
        self,
        v: Tensor,
        length: int,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Write a sequence for each v: see `VectorDecoder.generate`."""
        return self.decoder.generate(
            self.vector(v), length, temperature=temperature, generator=generator
        )
