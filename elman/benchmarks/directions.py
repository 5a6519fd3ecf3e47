"""Both directions of a layer: beside torch.nn's, and beside one after the other."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

import elman
from elman.benchmarks.finding import Finding, Settings
from elman.benchmarks.grid import Point
from elman.benchmarks.timing import compare
from elman.cells import LSTM

POINTS = (Point(1, 64, 1024), Point(1, 256, 1024), Point(16, 256, 100), Point(64, 128, 100))


def bidirectional(settings: Settings) -> Iterable[Finding]:
    """The time of torch.nn.LSTM in both directions over elman's; and that of elman's directions
    one after the other over theirs together."""
    for point in settings.at(*POINTS):
        for mode, training in (("forward", False), ("forward + backward", True)):
            found = compare(_runs(point, training), settings.budget)
            at = f"LSTM, {point}, {mode}"
            ratio = found["torch.nn"] / found["elman"]
            note = f"{found['elman']:.2f} ms"
            yield Finding("bidirectional", "torch.nn / elman", at, ratio, "times", "", note)
            ratio = found["in turn"] / found["together"]
            yield Finding("bidirectional", "in turn / together", at, ratio, "times", ">= 1")


def _runs(point: Point, training: bool) -> dict[str, Callable[[], Any]]:
    H = point.hidden
    theirs, ours = (kind(H, H, bidirectional=True) for kind in (nn.LSTM, elman.LSTM))
    ours.load_state_dict(theirs.state_dict())
    both = elman.Bidirectional(LSTM(H, H), LSTM(H, H))

    def in_turn(x: Tensor) -> Tensor:
        layers = both.forward_layer, both.backward_layer
        return torch.cat([layer(x)[0] for layer in layers], dim=-1)

    run = _training if training else _inference
    x = torch.randn(point.steps, point.batch, H, requires_grad=training)
    return {
        "elman": run(lambda x: ours(x)[0], ours, x),
        "torch.nn": run(lambda x: theirs(x)[0], theirs, x),
        "together": run(lambda x: both(x)[0], both, x),
        "in turn": run(in_turn, both, x),
    }


def _inference(
    forward: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor
) -> Callable[[], Any]:
    return torch.inference_mode()(lambda: forward(x))


def _training(
    forward: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor
) -> Callable[[], Any]:
    wanted = [x, *module.parameters()]
    return lambda: torch.autograd.grad(forward(x).sum(), wanted)
