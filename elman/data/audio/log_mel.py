"""What a model hears of a sound: log energies in mel bands, a few frames a step."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.audio.samples import checked_rate
from elman.data.core.typed import typed
from elman.errors import DataError, OptionError, require_positive

#: Hz: the lower end of the lowest band.
LOWEST = 20.0
#: Kaldi's samples are whole numbers of 16 bits.
FULL_SCALE = 32768.0


@dataclass(frozen=True)
class LogMel:
    """Log mel energies, k frames stacked and every r-th stack kept.

        e_m(t) = ln sum_f M_mf |DFT(window * s_t)|_f^2        25 ms of sound, every 10 ms
        x_u = [e(u r), e(u r + 1), ..., e(u r + k - 1)]

    samples: [N] in -1 ... 1 at sample_rate   ->   [T, frames * num_mels] float32
    stride: r, the frames between two steps. What is shorter than a step gives T = 0.

    Raises OptionError. Source: the filters of Kaldi (Povey et al. 2011); stacking Sak et al. 2015,
    section 3.
    """

    sample_rate: int
    num_mels: int = 40
    frames: int = 2
    stride: int = 2
    window_ms: float = 25.0
    step_ms: float = 10.0

    def __post_init__(self) -> None:
        require_positive(num_mels=self.num_mels, frames=self.frames, stride=self.stride)
        if not 1 <= self.step_ms <= self.window_ms <= 1000:
            raise OptionError(
                f"step_ms must be at least 1 and at most window_ms, which is at most 1000; got "
                f"{self.step_ms:g} and {self.window_ms:g}"
            )
        bins = self.sample_rate * self.window_ms / 2000
        if self.num_mels < 4 or self.num_mels > bins:
            raise OptionError(
                f"num_mels must lie in 4 ... {int(bins)} at {self.sample_rate} Hz with windows of "
                f"{self.window_ms:g} ms, got {self.num_mels}"
            )

    @property
    def size(self) -> int:
        """F, the numbers of a step."""
        return self.frames * self.num_mels

    @property
    def step_seconds(self) -> float:
        """The time from one step to the next."""
        return self.stride * self.step_ms / 1000

    def __call__(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """[T, F] of a whole sound."""
        return self.stream().push(samples)

    def stream(self) -> "LogMelStream":
        """The same numbers piece by piece."""
        return LogMelStream(self)

    def centres(self) -> NDArray[np.float64]:
        """[num_mels] Hz, the middle of each band."""
        low, high = hertz_to_mel(LOWEST), hertz_to_mel(self.sample_rate / 2)
        points = np.linspace(low, high, self.num_mels + 2)
        return 700 * (np.exp(points[1:-1] / 1127) - 1)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes it from again."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "LogMel":
        """What `to_json` described."""
        checked_rate(value["sample_rate"])
        return typed(cls, value)


class LogMelStream:
    """The features of a sound that comes in pieces of any size; memory does not grow."""

    def __init__(self, features: LogMel) -> None:
        import kaldi_native_fbank as kaldi

        options = kaldi.FbankOptions()
        options.frame_opts.samp_freq = features.sample_rate
        options.frame_opts.frame_length_ms = features.window_ms
        options.frame_opts.frame_shift_ms = features.step_ms
        options.frame_opts.dither = 0.0
        options.mel_opts.num_bins = features.num_mels
        options.mel_opts.low_freq = LOWEST
        self.features = features
        self._bank = kaldi.OnlineFbank(options)
        self._taken = 0
        self._held: list[NDArray[np.float32]] = []
        # Frames still to be left out, where stride > stack.
        self._leave = 0

    def push(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """[n, F]: the steps that these samples complete, perhaps none."""
        f = self.features
        x = np.asarray(samples, dtype=np.float32)
        if x.ndim != 1:
            raise DataError(f"a sound must be [N] samples of one channel, got {list(x.shape)}")
        if len(x):
            self._bank.accept_waveform(f.sample_rate, x * FULL_SCALE)
        steps = [np.concatenate(self._held[: f.frames]) for _ in self._stacks()]
        return np.stack(steps) if steps else np.zeros((0, f.size), dtype=np.float32)

    def _stacks(self) -> Iterator[None]:
        """Once for each full stack in what is held."""
        f = self.features
        for frame in self._frames():
            if self._leave:
                self._leave -= 1
                continue
            self._held.append(frame)
            if len(self._held) == f.frames:
                yield
                self._held = self._held[f.stride :]
                self._leave = max(f.stride - f.frames, 0)

    def _frames(self) -> Iterator[NDArray[np.float32]]:
        ready = self._bank.num_frames_ready
        for number in range(self._taken, ready):
            yield np.array(self._bank.get_frame(number))
        self._bank.pop(ready - self._taken)
        self._taken = ready


def hertz_to_mel(hertz: Any) -> Any:
    """1127 ln(1 + f / 700), O'Shaughnessy's mel as HTK and Kaldi have it."""
    return 1127 * np.log1p(np.asarray(hertz) / 700)
