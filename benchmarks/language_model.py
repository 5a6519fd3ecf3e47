"""Training the language model of `elman train lm` beside the same model on torch.nn.LSTM.

    python benchmarks/language_model.py --text input.txt --steps 50

Both have the same first weights and see the same text; they take their steps in turn, in one
process, forward, backward, clipping and AdamW included. Prints the tokens a second of both (from
the median step), their ratio, and the losses, which show that both learn the same.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.data.core.batch import Batch
from elman.data.text.corpus import Streams
from elman.layers import detach
from elman.models import LanguageModel


class TorchLanguageModel(nn.Module):
    """`elman.models.LanguageModel` with torch.nn.LSTM in the place of its stack.

    tokens: [T, B] ids   ->   logits: [T, B, vocab_size], (h, c)
    """

    def __init__(self, ours: LanguageModel, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(ours.vocab_size, hidden)
        self.lstm = nn.LSTM(hidden, hidden, layers)
        self.output = nn.Linear(hidden, ours.vocab_size)
        self.embedding.load_state_dict(ours.embedding.state_dict())
        self.output.load_state_dict(ours.output.state_dict())
        stacked = {
            f"{name}_l{layer}": value
            for layer, part in enumerate(ours.stack.layers)
            for name, value in part.cell.state_dict().items()
        }
        self.lstm.load_state_dict(stacked)

    def loss(self, tokens: Tensor, targets: Tensor, state=None):
        outputs, state = self.lstm(self.embedding(tokens), state)
        return F.cross_entropy(self.output(outputs).flatten(0, 1), targets.flatten()), state


@dataclass
class Training:
    """A model in training: its optimiser, the state that it carries on, and what was measured."""

    model: nn.Module
    rate: float
    state: object = None
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.rate, weight_decay=0.0)

    def step(self, chunk: Batch) -> None:
        begin = time.perf_counter()
        state = None if chunk.first else detach(self.state)
        found = self.model.loss(chunk.tensors["tokens"], chunk.tensors["targets"], state)
        loss, self.state = found.mean, found.state
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.losses.append(loss.item())
        self.seconds.append(time.perf_counter() - begin)


def parsed() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True, help="a UTF-8 text")
    parser.add_argument("--steps", type=int, default=30, help="steps of each model")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--bptt", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice if not given")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


def streams_of(text: str, batch_size: int, bptt: int) -> tuple[Streams, int]:
    """The text as numbered characters in streams, and how many characters there are."""
    characters = sorted(set(text))
    number = {character: i for i, character in enumerate(characters)}
    ids = np.fromiter((number[c] for c in text), dtype=np.int64, count=len(text))
    return Streams(ids, batch_size, bptt), len(characters)


def race(contestants: dict[str, Training], streams: Streams, steps: int) -> None:
    """Let them step in turn over whole chunks; who begins changes each time."""
    whole = max(1, streams.length // streams.bptt)
    for done in range(steps):
        chunk = streams.batch(done % whole)
        order = list(contestants.values())
        for training in order if done % 2 else order[::-1]:
            training.step(chunk)


def main() -> None:
    """Train both and print what was measured."""
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    text = options.text.read_text(encoding="utf-8")
    streams, kinds = streams_of(text, options.batch_size, options.bptt)
    ours = LanguageModel(kinds, options.hidden, options.layers)
    theirs = TorchLanguageModel(ours, options.hidden, options.layers)
    both = {
        "elman": Training(ours, options.learning_rate),
        "torch.nn": Training(theirs, options.learning_rate),
    }
    race(both, streams, options.steps)
    tokens = options.batch_size * min(options.bptt, streams.length)
    found = {
        name: {
            # The first step compiles and allocates.
            "tokens_per_s": tokens / statistics.median(t.seconds[1:] or t.seconds),
            "first_step_s": t.seconds[0],
            "first_loss_nats": t.losses[0],
            "last_loss_nats": t.losses[-1],
        }
        for name, t in both.items()
    }
    ratio = found["elman"]["tokens_per_s"] / found["torch.nn"]["tokens_per_s"]
    if options.json:
        print(json.dumps({**found, "ratio": ratio, "threads": torch.get_num_threads()}, indent=1))
        return
    print(
        f"{options.layers} x {options.hidden} LSTM, batch {options.batch_size}, bptt "
        f"{options.bptt}, {kinds} characters, float32, {torch.get_num_threads()} threads"
    )
    for name, numbers in found.items():
        print(
            f"{name:10}{numbers['tokens_per_s']:12,.0f} tokens/s   first step "
            f"{numbers['first_step_s']:.2f} s   loss {numbers['first_loss_nats']:.4f} -> "
            f"{numbers['last_loss_nats']:.4f}"
        )
    print(f"ratio     {ratio:12.2f}")


if __name__ == "__main__":
    main()
