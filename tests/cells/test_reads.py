"""What a step can read beside its tensors may change between calls: a plan holds no longer."""

import copy
import enum
import functools
import gc
import itertools
import logging
import os
import pickle
import random
import threading
import time
import types
import warnings
import weakref
from collections import OrderedDict, namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import elman
from elman.cells import CELLS, plan_cache
from elman.cells.plan_cache import cache_of
from elman.cells.reads.snapshot import Snapshot
from elman.runtime import plans
from tests.backends.layers import FAST

LIMIT = 2.0
config = types.ModuleType("config")
config.slope = 0.5


@dataclass
class Settings:
    act: str = "tanh"


class Slots:
    __slots__ = ("gain", "spare")

    def __init__(self) -> None:
        self.gain = 1.0


class Options(Settings):
    """Attributes that code computes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = {"bias": 0.25}

    @property
    def bias(self) -> float:
        return self.table["bias"]

    def __getattr__(self, name: str) -> float:
        if name != "other":
            raise AttributeError(name)
        return self.__dict__["table"]["bias"] * 2


class Twice(nn.Module):
    factor = 2.0

    def forward(self, x):
        return x * self.factor


def scaled(x, by=0.5):
    return torch.clamp(x * by, max=LIMIT)


def strong(x):
    return x * strong.gain


strong.gain = 1.25


class Meta(type):
    @property
    def shift(cls) -> float:
        return cls.amount


class Shifted(metaclass=Meta):
    amount = 0.25


Pair = namedtuple("Pair", "low high")


def captured(value):
    def function(x):
        return x + value

    def change(to):
        nonlocal value
        value = to

    return function, change


class Base(elman.Cell):
    gain = 1.5

    def helper(self, x):
        return x * self.gain


class Reader(Base):
    """A step that reads whatever a step can read."""

    def __init__(self, size: int = 4) -> None:
        super().__init__(size, h=size)
        self.U = nn.Linear(size, size)
        self.act = nn.Tanh()
        self.twice = Twice()
        self._scale = 1.0
        self.cfg, self.slots, self.options = Settings(), Slots(), Options()
        self.nested = {"scale": [1.0, {"deep": 0.5}]}
        self.chosen = {"relu"}
        self.array = np.array([0.5, 2.0])
        self.partial = functools.partial(scaled, by=0.75)
        self.captured, self.capture = captured(0.125)
        self.bound = self.helper
        self.pair = Pair(-3.0, 3.0)
        # What no step mentions does not count, and need not be comparable.
        self.log, self.lock = logging.getLogger(__name__), threading.Lock()
        self.counter, self.rng = itertools.count(), random.Random(0)

    def step(self, x, h):
        u = self.U(h) * self._scale + self.twice(x) + float(self.array[1]) * config.slope
        u = torch.tanh(u) if self.cfg.act == "tanh" else torch.sigmoid(u)
        u = self.captured(scaled(self.partial(u))) + self.options.bias + self.options.other
        u = self.bound(u) * self.slots.gain * self.nested["scale"][1]["deep"]
        return self.polished(u if "relu" in self.chosen else -u)

    def polished(self, x):
        return self.act(strong(x).clamp(self.pair.low, self.pair.high) + Shifted.shift)


class Plain(Reader):
    """A step that names what it reads."""

    def step(self, x, h):
        return self.act(self.U(h) * self._scale + self.twice(x) * self.slots.gain)


class Composed(Reader):
    """A step that makes names up."""

    def step(self, x, h):
        return self.act(self.U(h) * getattr(self, "_" + "scale") + x)


def _code(cell):
    scaled.__code__ = (lambda x, by=0.5: torch.clamp(x * by, max=0.5)).__code__


CHANGES = {
    "an attribute with an underscore": lambda c: setattr(c, "_scale", 0.5),
    "an attribute of an object": lambda c: setattr(c.cfg, "act", "sigmoid"),
    "a slot": lambda c: setattr(c.slots, "gain", -1.0),
    "an object": lambda c: setattr(c, "cfg", Settings("sigmoid")),
    "what a property reads": lambda c: c.options.table.update(bias=1.0),
    "deep inside": lambda c: c.nested["scale"][1].update(deep=2.0),
    "a list": lambda c: c.nested["scale"].insert(1, {"deep": 3.0}),
    "a set": lambda c: c.chosen.clear(),
    "an array": lambda c: c.array.__setitem__(1, 0.25),
    "a module": lambda c: setattr(c, "act", nn.Sigmoid()),
    "an attribute of a module": lambda c: setattr(c.twice, "factor", 0.5),
    "a class attribute of a module": lambda c: setattr(Twice, "factor", 3.0),
    "a class attribute": lambda c: setattr(Reader, "gain", 0.75),
    "a class attribute of a base": lambda c: setattr(Base, "gain", 0.25),
    "an attribute before its class": lambda c: setattr(c, "gain", 0.3),
    "a method": lambda c: setattr(Reader, "polished", lambda self, x: x - self.gain),
    "a method of an object": lambda c: setattr(c, "bound", types.MethodType(lambda c, x: x + 1, c)),
    "a default": lambda c: setattr(scaled, "__defaults__", (0.125,)),
    "code": _code,
    "an attribute of a function": lambda c: setattr(strong, "gain", 0.25),
    "what a metaclass reads": lambda c: setattr(Shifted, "amount", -0.25),
    "a field": lambda c: setattr(c, "pair", c.pair._replace(high=-1.0)),
    "a closure": lambda c: c.capture(2.0),
    "a partial": lambda c: setattr(c, "partial", functools.partial(scaled, by=-1.0)),
    "a global": lambda c: globals().update(LIMIT=0.1),
    "a builtin": lambda c: globals().update(float=lambda number: 0.0),
    "a module's variable": lambda c: setattr(config, "slope", -0.5),
    "a class": lambda c: setattr(c.twice, "__class__", type("Odd", (Twice,), {"factor": -1.0})),
}


@pytest.fixture
def _restored():
    """Globals, classes and functions as they were."""
    names = dict(globals())
    code, defaults = scaled.__code__, scaled.__defaults__
    held = [(c, dict(vars(c))) for c in (Base, Reader, Twice)]
    yield
    globals().pop("float", None)
    globals().update(LIMIT=names["LIMIT"])
    config.slope, strong.gain, Shifted.amount = 0.5, 1.25, 0.25
    scaled.__code__, scaled.__defaults__ = code, defaults
    for kind, attributes in held:
        for name in set(vars(kind)) - set(attributes):
            delattr(kind, name)
        for name in ("gain", "factor", "polished"):
            if name in attributes:
                setattr(kind, name, attributes[name])


def as_the_loop(cell, x, backend) -> torch.Tensor:
    found = elman.Recurrent(cell, backend=backend)(x)[0]
    expected = elman.Recurrent(cell, backend="loop")(x)[0]
    torch.testing.assert_close(found, expected)
    return found.detach()


@FAST
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_step_reads_changes_between_calls(backend, change, _restored) -> None:
    torch.manual_seed(0)
    cell, x = Reader(), torch.randn(3, 2, 4)
    before = as_the_loop(cell, x, backend)
    CHANGES[change](cell)
    assert not torch.equal(before, as_the_loop(cell, x, backend))  # it matters


@pytest.fixture
def compiled(monkeypatch):
    """How often a cell has been compiled."""
    made = []
    real = plans.compile_cell

    def compile_cell(*args, **options):
        made.append(options)
        return real(*args, **options)

    monkeypatch.setattr(plans, "compile_cell", compile_cell)
    return made


def test_what_no_step_mentions_compiles_nothing(compiled) -> None:
    cell, x = Plain(), torch.randn(3, 2, 4)
    layer = elman.Recurrent(cell, backend="eager")
    layer(x)
    cell.log, cell.spare, cell.slots.spare = logging.getLogger("other"), object(), 3
    cell.last_output = torch.zeros(3)
    next(cell.counter)
    layer(x)
    cell.last_output = torch.zeros(5)
    layer.train()
    layer(torch.randn(7, 5, 4))
    layer.eval()
    layer(x)
    assert len(compiled) == 1


@FAST
def test_names_that_code_makes_up(backend) -> None:
    cell, x = Composed(), torch.randn(3, 2, 4)
    before = as_the_loop(cell, x, backend)
    cell._scale = 0.25
    assert not torch.equal(before, as_the_loop(cell, x, backend))


def test_what_was_there_before_compiles_nothing(compiled) -> None:
    cell, x = Reader(), torch.randn(3, 2, 4)
    for k in range(8):
        cell._scale, cell.cfg.act = 0.5 + k % 2, ("tanh", "sigmoid")[k % 2]
        as_the_loop(cell, x, "eager")
    assert len(compiled) == 2


def test_ever_new_values_are_told_of_and_forgotten(compiled, monkeypatch) -> None:
    monkeypatch.setattr(plan_cache, "KEPT", 4)
    monkeypatch.setattr(plans, "MANY", 3)
    cell, x = Plain(), torch.randn(3, 2, 4)
    with pytest.warns(RuntimeWarning, match="'_scale' that its step reads takes ever new values"):
        for k in range(6):
            cell._scale = k / 7
            as_the_loop(cell, x, "eager")
    assert len(compiled) == 6 and len(cache_of(cell).tables) == 4


def test_copies_share_plans_and_read_for_themselves(compiled) -> None:
    x = torch.randn(3, 2, 4)
    layer = elman.Recurrent(elman.cells.LSTM(4, 4), backend="eager")
    layer(x)
    twin = copy.deepcopy(layer)
    twin(x)
    shallow = copy.copy(layer.cell)
    as_the_loop(shallow, x, "eager")
    assert len(compiled) == 1
    cell = Reader()
    del cell.log, cell.lock, cell.counter, cell.rng, cell.capture
    as_the_loop(cell, x, "eager")
    other = copy.deepcopy(cell)
    other._scale = 3.0
    as_the_loop(other, x, "eager")
    as_the_loop(cell, x, "eager")
    again = pickle.loads(pickle.dumps(layer))
    assert not cache_of(again.cell).tables
    as_the_loop(again.cell, x, "eager")


def test_threads_compile_once(compiled) -> None:
    layer, x = elman.Recurrent(Reader(), backend="eager"), torch.randn(3, 2, 4)
    barrier = threading.Barrier(4)

    def run(_):
        barrier.wait()
        return layer(x)[0]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(run, range(4)))
    assert len(compiled) == 1 and all(torch.equal(f, found[0]) for f in found)


def test_a_class_that_exec_has_made() -> None:
    """Its module is that of builtins."""
    space = {"elman": elman, "torch": torch}
    exec(
        "class Made(elman.Cell):\n"
        "    scale = 1.0\n"
        "    def step(self, x, h):\n"
        "        return torch.tanh(x + h) * self.scale\n",
        space,
    )
    cell, x = space["Made"](4, h=4), torch.randn(3, 2, 4)
    before = as_the_loop(cell, x, "eager")
    type(cell).scale = 0.5
    assert not torch.equal(before, as_the_loop(cell, x, "eager"))
    cell.scale = 0.25
    as_the_loop(cell, x, "eager")


# ------------------------------------------------------------------ what cannot be known


class Odd(elman.Cell):
    """A cell whose step is a function of the cell that gives a number."""

    def __init__(self, number) -> None:
        super().__init__(4, h=4)
        self.number = number
        self.counter, self.rng = itertools.count(), random.Random(0)
        self.large = np.ones(10_000)

    def step(self, x, h):
        return torch.tanh(x + h) * self.number(self)


UNKNOWN = {
    "time": (lambda c: time.time() * 1e-9, "time.time"),
    "random": (lambda c: random.random(), "Random"),
    "numpy.random": (lambda c: np.random.rand(), "numpy.random"),
    "a generator": (lambda c: c.rng.random(), "rng"),
    "a file": (lambda c: open(os.devnull).close() or 1, "open"),
    "a hidden state": (lambda c: next(c.counter), "counter"),
    "a large array": (lambda c: float(c.large[3]), "large"),
    "grad mode": (lambda c: 2 if torch.is_grad_enabled() else 1, "is_grad_enabled"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_known_runs_the_loop_and_says_so(name) -> None:
    number, reason = UNKNOWN[name]
    layer = elman.Recurrent(Odd(number))
    with pytest.warns(RuntimeWarning, match=reason):
        layer(torch.randn(3, 2, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(torch.randn(3, 2, 4))  # once
    assert layer.plan().backend == "loop"
    with pytest.raises(elman.errors.BackendError, match=reason):
        elman.Recurrent(Odd(number), backend="llvm")(torch.randn(3, 2, 4))


@FAST
def test_the_environment_is_looked_at(backend, monkeypatch) -> None:
    cell, x = Odd(lambda c: 2 if "ELMAN_TEST_ODD" in os.environ else 1), torch.randn(3, 2, 4)
    before = as_the_loop(cell, x, backend)
    monkeypatch.setenv("ELMAN_TEST_ODD", "1")
    assert not torch.equal(before, as_the_loop(cell, x, backend))


@FAST
def test_a_table_that_the_step_fills_is_no_change(backend) -> None:
    table = {}

    def number(cell) -> float:
        if "x" not in table:
            table["x"] = 0.5
        return table["x"]

    as_the_loop(Odd(number), torch.randn(3, 2, 4), backend)


# ------------------------------------------------------------------ memory


@FAST
def test_a_cell_that_holds_itself_is_freed(backend) -> None:
    """It is reachable from a bound method among its attributes, and from nowhere else."""
    layer, x = elman.Recurrent(Reader(), backend=backend), torch.randn(3, 2, 4)
    layer(x)[0].sum().backward()
    with torch.no_grad():
        layer(x)
    layer.cell.cfg.act = "sigmoid"
    layer(x)
    held = [weakref.ref(v) for v in (layer, layer.cell, layer.cell.U.weight, layer.cell.cfg)]
    del layer
    gc.collect()
    assert [ref() for ref in held] == [None] * 4


def test_a_cell_that_cannot_be_compiled_is_freed() -> None:
    layer = elman.Recurrent(Odd(lambda c: torch.arange(4.0)))
    assert layer.plan().backend == "loop"
    held = weakref.ref(layer.cell)
    del layer
    gc.collect()
    assert held() is None


@pytest.mark.parametrize("name", sorted(CELLS))
def test_few_things_are_looked_at_in_each_call(name) -> None:
    """Each takes some 40 ns, and a call may spend 15 us on them."""
    probes = Snapshot(CELLS[name](3, 4)).probes
    assert sum(len(each) for each in vars(probes).values()) < 150


# ------------------------------------------------------------------ kinds that readers have found


class Gate(enum.Enum):
    OPEN = [1.0]


Gate.OPEN.scale = 1.0
FACTORS = [1.0]


@functools.lru_cache
def cached_factor() -> float:
    return FACTORS[0]


class Own(elman.Cell):
    """h' = f(x + h U) for a function f of the cell and of that sum."""

    def __init__(self, function) -> None:
        super().__init__(4, h=4)
        self.U, self.function = nn.Parameter(torch.randn(4, 4) / 2), function
        self.inner = nn.Tanh()
        self.functions = nn.ModuleDict({"a": nn.Tanh(), "b": nn.Sigmoid(), "c": nn.Softplus()})
        self.table = {"a": torch.tanh, "b": torch.sigmoid, "c": torch.relu}
        self.ordered = OrderedDict(self.table)
        self.optimizer = torch.optim.SGD([self.U], lr=1.0)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, 0.5)
        self.polynomial, self.array = np.poly1d([1.0, 2.0]), np.ones((4, 1))

    def step(self, x, h):
        return self.function(self, x + h @ self.U)


def _in_turn(functions, v):
    for function in functions.values():
        v = function(v)
    return v


def _to_the_end(mapping) -> None:
    first, last = mapping.pop("a"), mapping.pop("c")
    mapping["a"], mapping["c"] = first, last


def _scheduled(cell) -> None:
    cell.optimizer.step()
    cell.scheduler.step()


#: What a step computes, and a change that it does not see by an identity.
FOUND = {
    "the order of modules": (
        lambda c, v: _in_turn(c.functions, v), lambda c: _to_the_end(c.functions),
    ),
    "the order of a dict": (lambda c, v: _in_turn(c.table, v), lambda c: _to_the_end(c.table)),
    "the order of an ordered dict": (
        lambda c, v: _in_turn(c.ordered, v), lambda c: c.ordered.move_to_end("b", last=False),
    ),
    "a scheduler": (lambda c, v: v.tanh() * c.scheduler.get_last_lr()[0], _scheduled),
    "an optimizer": (
        lambda c, v: v.tanh() * c.optimizer.param_groups[0]["lr"],
        lambda c: c.optimizer.param_groups[0].update(lr=0.3),
    ),
    "an object of NumPy": (
        lambda c, v: v.tanh() * float(c.polynomial(1.0)),
        lambda c: c.polynomial.__setitem__(1, 5.0),
    ),
    "the value of a member": (
        lambda c, v: v.tanh() * Gate.OPEN.value[0], lambda c: Gate.OPEN.value.__setitem__(0, 0.1),
    ),
    "an attribute of a member": (
        lambda c, v: v.tanh() * Gate.OPEN.scale, lambda c: setattr(Gate.OPEN, "scale", 0.2),
    ),
    "the shape of an array": (
        lambda c, v: v.tanh() / len(c.array), lambda c: setattr(c.array, "shape", (2, 2)),
    ),
    "the mode of a module": (
        lambda c, v: c.inner(v) * (1.0 if c.inner.training else 0.5), lambda c: c.inner.eval(),
    ),
}  # fmt: skip


@FAST
@pytest.mark.parametrize("name", FOUND)
def test_what_readers_have_found_changes_between_calls(backend, name) -> None:
    function, change = FOUND[name]
    Gate.OPEN.value[0] = Gate.OPEN.scale = 1.0
    cell, x = Own(function), torch.randn(3, 2, 4)
    before = as_the_loop(cell, x, backend)
    change(cell)
    assert not torch.equal(before, as_the_loop(cell, x, backend))


def test_results_of_before_run_the_loop() -> None:
    cell, x = Own(lambda c, v: v.tanh() * cached_factor()), torch.randn(3, 2, 4)
    with pytest.warns(RuntimeWarning, match="lru_cache"):
        before = as_the_loop(cell, x, "auto")
    FACTORS[0] = 2.0
    assert torch.equal(before, as_the_loop(cell, x, "auto"))
    cached_factor.cache_clear()
    assert not torch.equal(before, as_the_loop(cell, x, "auto"))
