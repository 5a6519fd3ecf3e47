"""Sounds as they might have been, made anew for each step of a training from what was recorded."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.data.audio.log_mel import LOWEST, LogMel, hertz_to_mel
from elman.data.core.scalers import StandardScaler
from elman.errors import OptionError
from elman.models.common.targets import inside

#: Energy of nothing, in ln units of 16-bit samples: what Kaldi's floor gives.
FLOOR = math.log(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Augmentation:
    """How far a training batch of log mel energies may be changed; 0 leaves it as it is.

        warp     e'_m = e at the frequency a f_m, 1 - warp < a < 1 + warp        a voice's length
        gain     e' = e + g, -gain < g < gain dB
        noise    e' = ln(exp(e) + exp(n)), n from -noise to -60 dB below the sound
        masks    two stretches of up to time_mask steps, two of up to frequency_mask bands, as if
                 there were the mean alone

    All numbers are drawn by torch's generator, once for each sequence.
    Source: warping Jaitly & Hinton 2013; masks Park et al. 2019, SpecAugment.
    """

    warp: float = 0.0
    gain: float = 0.0
    noise: float | None = None
    time_mask: int = 0
    frequency_mask: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.warp < 0.5:
            raise OptionError(f"warp must lie in [0, 0.5), got {self.warp}")
        for name in ("gain", "time_mask", "frequency_mask"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} must be 0 or above, got {getattr(self, name)}")
        if self.noise is not None and not 0 <= self.noise < 60:
            raise OptionError(f"noise must lie in [0, 60) dB, got {self.noise}")

    @property
    def changes(self) -> bool:
        """Whether it does anything."""
        return self != Augmentation()

    def __call__(
        self, x: Tensor, lengths: Tensor, features: LogMel, scale: StandardScaler
    ) -> Tensor:
        """x: [T, B, F] of these features, scaled   ->   the same shape; past the end is 0."""
        mean, deviation = (x.new_tensor(v) for v in (scale.mean, scale.deviation))
        T, B, _ = x.shape
        bands = features.num_mels
        e = (x * deviation + mean).view(T, B, -1, bands)
        if self.warp:
            e = self._warped(e, features)
        if self.gain:
            e = e + _between(x, B, -self.gain, self.gain) * (math.log(10) / 10)
        if self.noise is not None:
            e = torch.logaddexp(e, self._hiss(e, lengths))
        x = (e.reshape(T, B, -1) - mean) / deviation
        keep = inside(lengths, x)[..., None]
        if self.time_mask:
            keep = keep & ~_stretches(x, lengths, self.time_mask, T).T[..., None]
        x = x * keep
        if self.frequency_mask:
            hidden = _stretches(x, torch.full_like(lengths, bands), self.frequency_mask, bands)
            x = x * ~hidden.repeat(1, features.frames)
        return x

    def _warped(self, e: Tensor, features: LogMel) -> Tensor:
        """Each band from where a times its frequency lies."""
        at = _warp_places(features, 1 - self.warp, 1 + self.warp)
        share = torch.rand(e.shape[1], 1, device=e.device, dtype=e.dtype)
        low, high = (e.new_tensor(places) for places in at)
        places = (low + share * (high - low)).clamp(0, features.num_mels - 1)  # [B, bands]
        below = places.floor().long().clamp(max=features.num_mels - 2)
        part = (places - below)[None, :, None]
        index = below[None, :, None].expand(*e.shape)
        return (1 - part) * e.gather(3, index) + part * e.gather(3, index + 1)

    def _hiss(self, e: Tensor, lengths: Tensor) -> Tensor:
        """Noise at all frequencies, its level drawn for each sequence."""
        assert self.noise is not None
        valid = inside(lengths, e)[..., None, None]
        loud = torch.where(valid, e, -torch.inf).amax(dim=(0, 2, 3))[None, :, None, None]
        below = _between(e, e.shape[1], self.noise, 60.0) * (math.log(10) / 10)
        # The energy of noise in a band of several frequencies varies by about this much.
        return (loud - below + 0.5 * torch.randn_like(e)).nan_to_num(neginf=FLOOR)


def _between(like: Tensor, count: int, low: float, high: float) -> Tensor:
    """[1, B, 1, 1] numbers."""
    drawn = torch.rand(count, device=like.device, dtype=like.dtype)
    return (low + (high - low) * drawn)[None, :, None, None]


def _stretches(like: Tensor, lengths: Tensor, widest: int, size: int) -> Tensor:
    """[B, size] bool: two stretches, each of 0 ... widest places that begin inside the lengths."""
    places = torch.arange(size, device=like.device)
    hidden = torch.zeros(len(lengths), size, dtype=torch.bool, device=like.device)
    for _ in range(2):
        width, begin = (torch.rand(2, len(lengths), 1, device=like.device)).unbind()
        # A short sequence is not hidden as a whole.
        most = torch.minimum(torch.full_like(lengths, widest), lengths // 3)[:, None]
        width = (width * (most + 1)).floor()
        begin = (begin * (lengths[:, None] - width)).floor()
        hidden |= (places >= begin) & (places < begin + width)
    return hidden


def _warp_places(features: LogMel, *factors: float) -> list[NDArray[Any]]:
    """For each factor the place, in bands, at which factor times each band's frequency lies."""
    mels = hertz_to_mel(features.centres())
    low, apart = hertz_to_mel(LOWEST), mels[1] - mels[0]
    return [(hertz_to_mel(a * features.centres()) - low) / apart - 1 for a in factors]
