"""A trained model of music: the next frame, pieces, MIDI files."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.data.core.batch import Batch
from elman.data.core.batches import collate
from elman.data.core.examples import Examples
from elman.data.music.midi import KEYS, LOWEST, write_midi
from elman.errors import DataError, OptionError, require_positive
from elman.models.common.frames import Binary
from elman.models.common.loss import Loss
from elman.models.common.sampling import seeded
from elman.models.common.scores import added, multi_label_counts, multi_label_scores
from elman.models.text.tagger import Tagger
from elman.tasks.base.example_predictor import ExamplePredictor, answered, batched
from elman.tasks.base.figures import draw_rolls
from elman.tasks.base.prediction import Prediction
from elman.tasks.base.streaming import Lines, stack_stream
from elman.tasks.music.options import MusicOptions
from elman.tasks.music.processor import MusicProcessor

AT_ONCE = 64
#: A frame in which no key sounds, in a line.
SILENCE = "-"

Roll = NDArray[Any]


@dataclass(frozen=True)
class MusicPredictor(ExamplePredictor):
    """A trained model of music. Piano rolls are [T, 88], from A0 to C8."""

    options: MusicOptions
    model: Tagger
    processor: MusicProcessor

    # From inputs

    def parse(self, text: str) -> Roll:
        """The roll that a line stands for, as ``60 64 67; 60; -``: the keys of each frame as MIDI
        numbers, - where none sounds."""
        return np.array([frame(part) for part in text.split(";")] if text.strip() else _NOTHING)

    def line(self, found: Roll) -> str:
        """A line that `parse` reads as this roll again."""
        return "; ".join(" ".join(map(str, keys)) or SILENCE for keys in map(keys_of, found))

    def record(self, found: Roll) -> dict[str, Any]:
        """A roll for programs: the keys of each frame as MIDI numbers."""
        return {"frames": [keys_of(row) for row in found]}

    def read_inputs(self, file: str | Path) -> Iterator[Roll]:
        """The pieces in a file."""
        return (piece.roll for piece in self.processor.read([str(file)]))

    def predict(self, inputs: Iterable[Roll], *, batch_size: int = AT_ONCE) -> Iterator[Prediction]:
        """For each roll the probability of each key in the frame after its last."""
        return answered(inputs, batch_size, lambda roll: len(roll) == 0, self._answers)

    def _answers(self, rolls: list[Roll]) -> Iterator[Prediction]:
        t = collate([{"x": np.asarray(roll, dtype=np.float32)} for roll in rolls]).tensors
        shares, _ = self.model.probabilities(t["x"], t["x_lengths"])
        for b, length in enumerate(t["x_lengths"].tolist()):
            yield next_frame(shares[length - 1, b])

    def probabilities(self, roll: Roll) -> NDArray[Any]:
        """[T, 88]: of each key in the frame after each of a roll's."""
        x = torch.from_numpy(np.asarray(roll, dtype=np.float32))[:, None]
        return self.model.probabilities(x)[0][:, 0].numpy()

    def stream(self) -> "MusicStream":
        return MusicStream(self)

    # Writing

    def generate(
        self,
        count: int = 1,
        length: int | None = None,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        prompt: str | Path | Roll | None = None,
        prompt_length: int | None = None,
    ) -> Iterator[Roll]:
        """Pieces as rolls [T, 88].

        length: their frames, those of the prompt among them; None: the median of the training
        pieces, or as many after the prompt. temperature: 0 takes the likelier of on and off for
        each key at each step. seed: the same writes the same; None draws others every time.
        prompt: a roll, or the file of one, that they begin with; None: each begins with the first
        frame of a training piece. prompt_length: so many frames of the prompt.

        Raises OptionError, DataError.
        """
        require_positive(count=count)
        generator = seeded(seed)
        begun = self._begun(prompt, prompt_length)
        if length is None:
            length = self.processor.length + (0 if begun is None else len(begun))
        require_positive(length=length)
        for several in batched(range(count), AT_ONCE):
            first = self._openings(len(several), generator) if begun is None else begun[:length]
            x = torch.as_tensor(first, dtype=torch.float32).expand(-1, len(several), -1)
            yield from self._written(x, length, temperature, generator).numpy().swapaxes(0, 1)

    def _begun(self, prompt: str | Path | Roll | None, length: int | None) -> Tensor | None:
        """[T, 1, 88]: what all pieces begin with."""
        if prompt is None:
            if length is not None:
                raise OptionError("prompt_length is of a prompt, and none is given")
            return None
        if length is not None:
            require_positive(prompt_length=length)
        if isinstance(prompt, str | Path):
            found = next(self.read_inputs(prompt), None)
            if found is None:
                raise DataError(f"{prompt}: holds no note to begin with")
            prompt = found
        if prompt.ndim != 2 or prompt.shape[1] != KEYS or not len(prompt):
            raise OptionError(f"prompt must be a roll [T, {KEYS}], got {list(prompt.shape)}")
        return torch.as_tensor(np.asarray(prompt[:length]), dtype=torch.float32)[:, None]

    def _openings(self, count: int, generator: torch.Generator) -> Tensor:
        """[1, count, 88]: first frames of training pieces."""
        openings = self.processor.known["openings"]
        drawn = torch.randint(len(openings), (count,), generator=generator).tolist()
        first = torch.zeros(1, count, KEYS)
        for b, number in enumerate(drawn):
            first[0, b, openings[number]] = 1
        return first

    @torch.inference_mode()
    def _written(
        self, x: Tensor, length: int, temperature: float, generator: torch.Generator
    ) -> Tensor:
        """x: [T, B, 88] and what follows it, to [length, B, 88]."""
        stack, items = self.model.reader.encoder.stack, Binary(KEYS)
        hidden, state = stack(x)
        stream = stack.stream(state, batch_size=x.shape[1])
        frames, h = [*x], hidden[-1]
        while len(frames) < length:
            frames.append(items.draw(self.model.output(h), temperature, generator))
            h = stream(frames[-1])
        return torch.stack(frames)

    # What to look at

    def save(self, written: Iterator[Roll], out: Path) -> None:
        """Write pieces as MIDI files: out.mid, out-2.mid ..."""
        if out.suffix.lower() not in (".mid", ".midi"):
            raise OptionError(f"{out}: music is written as .mid, as piece.mid")
        if not out.parent.is_dir():
            raise OptionError(f"{out}: there is no folder {out.parent}")
        steps, tempo = self.processor.steps_per_beat, self.options.tempo
        for number, roll in enumerate(written, 1):
            path = out if number == 1 else out.with_stem(f"{out.stem}-{number}")
            write_midi(path, roll, steps, tempo)

    def draw(self, roll: Roll, sample: Roll, path: Path) -> None:
        """A piece, how likely each key was to follow in it, and a sample, one below the other."""
        told = np.concatenate((np.zeros((1, KEYS)), self.probabilities(roll)[:-1]))
        rows = [("played", roll), ("predicted from the frames before", told)]
        draw_rolls(path, [*rows, ("a sample", sample)], LOWEST)

    # Scores

    def loss(self, batch: Batch, state: Any) -> Loss:
        t = batch.tensors
        return self.model.loss(t["x"], t["x_lengths"], t["tags"])

    def measure(self, batch: Batch, state: Any) -> tuple[dict[str, float], Any]:
        t = batch.tensors
        lengths, tags = t["x_lengths"], t["tags"]
        loss = self.loss(batch, state)
        on, _ = self.model.decode(t["x"], lengths)
        counts = multi_label_counts(on.float(), tags, lengths)
        return {"total": float(loss.total), "count": float(loss.count), **counts}, None

    def scores(self, sums: dict[str, float]) -> dict[str, float]:
        return {**super().scores(sums), **multi_label_scores(sums)}

    def baseline(self, examples: Examples) -> dict[str, Any]:
        """Keys that sound as often as in training, whatever sounded before; of what sounds, the
        frame before once more."""
        share = np.array(self.processor.known["share"])
        on, off = np.log(share), np.log1p(-share)
        nats, frames = 0.0, 0
        sums: dict[str, float] = {}
        for row in examples:
            x, tags = np.array(row["x"]), np.array(row["tags"])
            nats -= float((tags @ on + (1 - tags) @ off).sum())
            frames += len(tags)
            sums = added(sums, multi_label_counts(torch.from_numpy(x), torch.from_numpy(tags)))
        name = "independent keys; else the last frame again"
        return {"name": name, "loss_nats": nats / frames, **multi_label_scores(sums)}


class MusicStream(Lines):
    """The next frame after each frame as it comes, a line each."""

    def __init__(self, trained: MusicPredictor) -> None:
        self.model = trained.model
        self.layers = stack_stream(trained.run.folder, self.model.reader.encoder.stack)

    def __call__(self, piece: str) -> Prediction:
        hidden = self.layers(torch.from_numpy(frame(piece)))
        return next_frame(self.model.output(hidden).sigmoid())

    def end(self) -> None:
        self.layers.reset()


def frame(text: str) -> NDArray[np.float32]:
    """The keys of a frame, as MIDI numbers apart by white space; - where none sounds."""
    keys = [] if text.strip() == SILENCE else text.replace(",", " ").split()
    found = np.zeros(KEYS, dtype=np.float32)
    for key in keys:
        if not key.isascii() or not key.isdigit() or not LOWEST <= int(key) < LOWEST + KEYS:
            raise DataError(
                f"'{text.strip()[:40]}': a frame is keys of {LOWEST} ... {LOWEST + KEYS - 1}, 60 "
                f"the middle C, or {SILENCE} where none sounds; got '{key[:20]}'"
            )
        found[int(key) - LOWEST] = 1
    if not keys and text.strip() != SILENCE:
        raise DataError(f"a frame is empty; where no key sounds it is {SILENCE}")
    return found


def keys_of(row: Any) -> list[int]:
    """The keys that sound in a frame [88], as MIDI numbers."""
    return (np.flatnonzero(np.asarray(row)) + LOWEST).tolist()


def next_frame(shares: Tensor) -> Prediction:
    """What is said of a next frame with these probabilities [88]: the keys that are likelier on
    than off, with their probabilities."""
    on = {LOWEST + int(k): float(shares[k]) for k in (shares > 0.5).nonzero().flatten()}
    text = " ".join(f"{key}/{p:.2f}" for key, p in on.items()) or SILENCE
    return Prediction(text, {"keys": list(on), "probabilities": shares.tolist()})


_NOTHING = np.zeros((0, KEYS), dtype=np.float32)
