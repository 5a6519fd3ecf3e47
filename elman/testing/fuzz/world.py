"""What a program runs in: a layer, the numbers that it is given, and all that came out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from elman.layers.layer import Layer


class World:
    """One run of a program.

    oracle: whether this run says what is right. exact: everything in float64, whatever the
        program says.
    """

    def __init__(
        self, layer: Layer, dtype: torch.dtype, numbers: int, oracle: bool, exact: bool
    ) -> None:
        self.layer, self.numbers, self.oracle, self.exact = layer, numbers, oracle, exact
        #: What it would be if it were not exact, and what it is.
        self.kind, self.dtype = dtype, torch.float64 if exact else dtype
        #: What came out, action by action.
        self.records: list[list[tuple[str, Tensor]]] = []
        #: The state that the last call returned, and what it fits.
        self.state: Any = None
        self.fits: Any = None

    def begin(self) -> None:
        """The next action."""
        self.records.append([])
        torch.default_generator.manual_seed(self._seed("noise"))  # a tenth of manual_seed's cost

    def _seed(self, key: str) -> int:
        text = f"{self.numbers} {len(self.records)} {key}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest())

    def tensor(self, key: str, *shape: int, scale: float = 1.0) -> Tensor:
        """Numbers of this action, the same in every run, and numbers of float32 in each."""
        draw = torch.Generator().manual_seed(self._seed(key))
        values = torch.randn(shape, generator=draw, dtype=torch.float64) * scale
        return values.float().to(self.dtype)

    def like(self, key: str, value: Tensor) -> Tensor:
        """Other numbers for a parameter."""
        scale = min(0.5, value.shape[-1] ** -0.5) if value.dim() > 1 else 0.3
        return self.tensor(key, *value.shape, scale=scale).to(value.dtype)

    def chance(self, key: str, *shape: int) -> Tensor:
        """Numbers between 0 and 1."""
        draw = torch.Generator().manual_seed(self._seed(key))
        return torch.rand(shape, generator=draw, dtype=torch.float64)

    def record(self, label: str, value: Tensor) -> None:
        self.records[-1].append((label, value.detach().clone()))

    def record_all(self, label: str, nest: Any) -> None:
        for number, leaf in enumerate(leaves(nest)):
            self.record(f"{label} {number}", leaf)

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.layer.named_parameters())

    def wanted(self) -> dict[str, Tensor]:
        """The parameters that have a gradient."""
        return {name: p for name, p in self.parameters() if p.requires_grad}


def leaves(nest: Any) -> Iterator[Tensor]:
    """The tensors of a nest, from left to right."""
    if isinstance(nest, Tensor):
        yield nest
    elif isinstance(nest, tuple | list):
        for part in nest:
            yield from leaves(part)
