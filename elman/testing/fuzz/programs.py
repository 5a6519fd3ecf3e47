"""Random programs: calls of one layer, and changes between them, as data."""

from __future__ import annotations

import copy
import warnings
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.testing.fuzz import calls
from elman.testing.fuzz.changes import CHANGES
from elman.testing.fuzz.layers import Spec, drawn_in, on, template
from elman.testing.fuzz.world import World


class Act(NamedTuple):
    """One call, by the name of its function in `calls`, or a change, by its name."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def run(self, world: World) -> None:
        """Do it."""
        act: Any = CHANGES.get(self.name) or getattr(calls, self.name)
        act(world, **dict(self.options))

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.options)})"


class Program(NamedTuple):
    """A layer, what runs it, and what is done with it; ``numbers`` seeds all numbers."""

    spec: Spec
    backend: str
    dtype: str
    numbers: int
    acts: tuple[Act, ...]

    @property
    def single(self) -> bool:
        """Whether float32 has a part in it."""
        narrowing = ("to float", "there and back")
        return self.dtype == "float32" or any(act.name in narrowing for act in self.acts)

    def listing(self) -> str:
        """The program for a reader: the cells' source, the layer and the acts."""
        sources = [drawn.source() for drawn in drawn_in(self.spec)]
        acts = "\n".join(f"    {number}. {act}" for number, act in enumerate(self.acts))
        head = f"{self.spec!r}\non {self.backend}, {self.dtype}, numbers {self.numbers}:\n"
        return "\n".join([*sources, head + acts])


class Raised(NamedTuple):
    """An action ended in an exception."""

    error: BaseException

    def __str__(self) -> str:
        text = str(self.error).partition("\n")[0]
        return f"{type(self.error).__name__}: {text[:200]}"


class Outcome(NamedTuple):
    """What came out, action by action; and what ended the program early, if anything did."""

    records: list[list[tuple[str, Tensor]]]
    raised: Raised | None


def play(program: Program, backend: str | None = None, exact: bool = False) -> Outcome:
    """Run a program. backend: in place of its own. exact: all of it in float64."""
    layer = on(copy.deepcopy(template(program.spec)), backend or program.backend)
    dtype = getattr(torch, program.dtype)
    world = World(layer, dtype, program.numbers, backend == "loop", exact)
    layer.to(world.dtype)
    before = torch.get_rng_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for act in program.acts:
                world.begin()
                act.run(world)
    except Exception as error:
        return Outcome(world.records, Raised(error))
    finally:
        torch.set_rng_state(before)
    return Outcome(world.records, None)


# ------------------------------------------------------------------ drawing


def random_program(draw: Random, spec: Spec, backend: str, dtype: str) -> Program:
    """A program of 2 to 8 acts on a layer."""
    B = draw.choice((1, 1, 2, 3, 3, 5))
    acts = [_call(draw, B, first=True)]
    for _ in range(draw.choice((0, 0, 1, 1, 1, 2, 2, 3, 4, 6))):
        acts.append(_change(draw) if draw.random() < 0.5 else _way_in(draw, B))
    acts.append(_call(draw, B))
    return Program(spec, backend, dtype, draw.randrange(1 << 30), tuple(acts))


def _change(draw: Random) -> Act:
    return Act(draw.choice(sorted(CHANGES)), (("r", draw.randrange(1000)),))


def _act(name: str, **options: Any) -> Act:
    return Act(name, tuple(options.items()))


def _way_in(draw: Random, B: int) -> Act:
    T = draw.choice((1, 2, 2, 3, 4))
    name = draw.choice(("call",) * 12 + OTHER)
    match name:
        case "call":
            return _call(draw, B)
        case "again":
            return _act(name, T=T, B=B, second=draw.random() < 0.5)
        case "step":
            return _act(name, T=T, B=B, back=draw.choice(("grad", "second order", "none")))
        case "stream":
            return _act(name, T=T, B=draw.choice((B, None)))
        case "func":
            return _act(name, T=T, B=B, kind=draw.choice(("grad", "jvp")))
        case "threads":
            return _act(name, T=T, B=B, back=draw.random() < 0.5)
        case _:
            return _act(name, T=T, B=B)


OTHER = ("again", "step", "step", "stream", "vmap", "func", "functional", "threads", "packed")


def _call(draw: Random, B: int, first: bool = False) -> Act:
    options: dict[str, Any] = {"T": draw.choice(LENGTHS), "B": B}
    if draw.random() < 0.12:
        options["B"] = draw.choice((None, 0, 1, 4, 9))
    chances: dict[str, tuple[float, tuple[Any, ...]]] = {
        "lengths": (0.25, (True,)),
        "reset": (0.2, (True,)),
        "truncate": (0.15, (1, 2, 3)),
        "states": (0.15, (True,)),
        "state": (0.0 if first else 0.5, ("carried", "carried", "wanted", "wanted", "attached")),
        "mode": (0.25, ("no_grad", "inference")),
        "form": (0.2, ("strided", "turned", "negative", "made")),
        "x_grad": (0.25, (False,)),
    }
    for name, (rate, values) in chances.items():
        if draw.random() < rate:
            options[name] = draw.choice(values)
    if "mode" not in options:
        if draw.random() < 0.25:
            options["way"] = draw.choice(
                ("checkpoint", "reentrant checkpoint", "save_on_cpu", "saved tensors as copies")
                + (("autocast",) if draw.random() < 0.3 else ())
            )
        options["back"] = draw.choice(ENDS)
        if options["back"].endswith("changed") and options.get("way") == "save_on_cpu":
            del options["way"]  # on the CPU it keeps the tensors themselves, and does not check
        if options["T"] == 0 and options["back"].endswith("changed"):
            options["back"] = "grad"  # the last state is the one that was given
        if options["back"].endswith("changed"):
            options.pop("states", None)  # of one layer, which are its outputs as well
    return _act("call", **options)


#: How many steps a call has.
LENGTHS = (*(1, 2, 3) * 5, *(4, 5, 6), 0, 9)
#: What is asked of a call, and how often.
ENDS = (
    *(("accumulate",) * 8), *(("grad",) * 7), *(("second order",) * 7), "grad twice", "grad twice",
    "none", "none", "batched", "output changed", "last state changed", "input changed",
)  # fmt: skip
