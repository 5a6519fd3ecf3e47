"""The two directions of a layer at the same time: what they give one after the other."""

import copy
import threading

import pytest
import torch

import elman
from elman.backends.cpu import engine
from elman.backends.cpu.engine import LLVM
from elman.backends.cpu.threads import openmp
from elman.cells import GRU, LSTM, MGU, LayerNormLSTM
from elman.runtime.dispatch import ENGINES
from elman.runtime.scan import Execution
from tests.support import assert_close, assert_equal, gradients, leaves, mapped, randomise

T, B, I, H = 7, 5, 3, 6

LAYERS = {
    "Bidirectional": lambda **o: both(GRU(I, H), LSTM(I, 4), **o),
    "Bidirectional of one cell": lambda **o: both(LayerNormLSTM(I, H), LayerNormLSTM(I, H), **o),
    "LSTM": lambda **o: elman.LSTM(I, H, num_layers=2, bidirectional=True, **o),
    "RNN": lambda **o: elman.RNN(I, H, bidirectional=True, **o),
}
OPTIONS = {
    "plain": {},
    "lengths": {"lengths": torch.tensor([3, 0, 7, 1, 7])},
    "reset": {"reset": torch.arange(T * B).view(T, B) % 5 == 0},
    "truncate": {"truncate": 3},
    "all": {
        "lengths": torch.tensor([7, 2, 0, 5, 6]),
        "reset": torch.arange(T * B).view(T, B) % 4 == 1,
        "truncate": 2,
        "return_states": True,
    },
}
RATES = {"zoneout": 0.3, "state_dropout": 0.4, "input_dropout": 0.2, "weight_drop": 0.3}


def both(ahead, back, **options):
    layers = (
        elman.Recurrent(cell, reverse=reverse, **options)
        for cell, reverse in ((ahead, False), (back, True))
    )
    return elman.Bidirectional(*layers)


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def launches(monkeypatch):
    """Small loops run at the same time too; a list of how many loops each launch has."""
    monkeypatch.setattr(engine, "at_once", lambda *_: True)
    counts = []
    for name in ("forward", "backward"):
        run = getattr(LLVM, name)

        def counted(self, *runs, run=run):
            counts.append(len(runs))
            run(self, *runs)

        monkeypatch.setattr(LLVM, name, counted)
    return counts


def literal(layer):
    """The layer on the same parameters, run by the literal loop."""
    twin = copy.deepcopy(layer, {id(p): p for p in layer.parameters()})
    for module in twin.modules():
        if hasattr(module, "execution"):
            module.execution = Execution("loop")
    return twin


def answers(layer, x, state, **options):
    """Every result of one call, and the gradients of x, the state and all parameters."""
    torch.manual_seed(3)
    results = leaves(layer(x, state, **options))
    wrt = [x, *leaves(state), *layer.parameters()]
    return results, gradients(results, wrt)


def problem(layer, dtype):
    layer = randomise(layer).to(dtype)
    x = torch.randn(T, B, I, dtype=dtype, requires_grad=True)
    with torch.no_grad():
        _, state = literal(layer)(torch.randn(2, B, I, dtype=dtype))
    return layer, x, mapped(lambda s: s.clone().requires_grad_(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_bits_are_those_of_one_after_the_other(
    kind, options, dtype, threads, launches, monkeypatch
):
    layer, x, state = problem(LAYERS[kind](), dtype)
    found = answers(layer, x, state, **options)
    assert set(launches) == {2}
    monkeypatch.setattr(engine, "at_once", lambda *_: False)
    launches.clear()
    assert_equal(found, answers(layer, x, state, **options))
    assert set(launches) == {1}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_the_literal_loop_gives_the_same(kind, options, threads, launches):
    layer, x, state = problem(LAYERS[kind](), torch.float64)
    expected = answers(literal(layer), x, state, **options)
    assert not launches
    assert_close(answers(layer, x, state, **options), expected)
    assert set(launches) == {2}


@pytest.mark.parametrize("kind", ["LSTM", "Bidirectional"])
def test_noise_is_drawn_as_one_after_the_other(kind, threads, launches):
    """The same seed drops the same."""
    layer, x, state = problem(LAYERS[kind](**RATES), torch.float64)
    found = answers(layer, x, state, **OPTIONS["lengths"])
    assert set(launches) == {2}
    assert_close(found, answers(literal(layer), x, state, **OPTIONS["lengths"]))


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1)])
def test_smallest_sizes(size, threads, launches):
    layer, _, _ = problem(LAYERS["LSTM"](), torch.float64)
    x = torch.randn(*size, I, requires_grad=True)
    wrt = [x, *layer.parameters()]
    found, expected = layer(x), literal(layer)(x)
    assert_close(found, expected)
    assert_close(gradients(found, wrt), gradients(expected, wrt))
    assert set(launches) == {2}


def test_no_step_at_all(launches):
    layer = LAYERS["LSTM"]()
    outputs, (h, _) = layer(torch.randn(4, 2, I), lengths=torch.tensor([0, 0]))
    assert not outputs.any() and not h.any() and not launches


def test_second_derivatives(threads, launches):
    layer = randomise(both(MGU(2, 2), LSTM(2, 2)))
    x = torch.randn(3, 2, 2, requires_grad=True)
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(x, *values):
        parameters = dict(zip(names, values, strict=True))
        options = {"lengths": torch.tensor([3, 1])}
        return torch.func.functional_call(layer, parameters, (x,), options)[0]

    assert torch.autograd.gradgradcheck(run, (x, *values), fast_mode=True)
    assert set(launches) == {2}
    found = []
    for which in (layer, literal(layer)):  # through one direction alone, of both that have run
        _, (_, state) = which(x)
        (d,) = torch.autograd.grad(state[0].square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(d.square().sum(), x))
    assert_close(*found)


def test_one_direction_alone_is_differentiated(threads, launches):
    """The loop that no gradient reaches does not run backwards."""
    layer, x, _ = problem(LAYERS["Bidirectional"](), torch.float64)
    ahead, back = layer.forward_layer, layer.backward_layer
    wrt = [x, *layer.parameters()]
    _, (_, state) = layer(x)
    grads = torch.autograd.grad(state[0].square().sum(), wrt, allow_unused=True)
    assert launches == [2, 1]
    alone = torch.autograd.grad(back(x)[1][0].square().sum(), [x, *back.parameters()])
    count = len(list(ahead.parameters()))
    assert grads[1 : 1 + count] == (None,) * count
    assert_equal((grads[0], *grads[1 + count :]), alone)


@pytest.mark.parametrize("frozen", ["weight_hh_l0", "weight_ih_l0_reverse", "_reverse", ""])
def test_some_parameters_are_frozen(frozen, threads, launches):
    layer, x, _ = problem(LAYERS["RNN"](), torch.float64)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(frozen not in name or frozen == name.removesuffix("_reverse"))
    x = x.detach().requires_grad_(frozen == "")
    wrt = [t for t in (x, *layer.parameters()) if t.requires_grad]
    found, expected = layer(x), literal(layer)(x)
    assert [r.requires_grad for r in leaves(found)] == [r.requires_grad for r in leaves(expected)]
    assert_close(found, expected)
    assert_close(gradients(found, wrt), gradients(expected, wrt))


def test_without_a_gradient(threads, launches):
    layer, x, state = problem(LAYERS["LSTM"](), torch.float64)
    with torch.no_grad():
        assert_close(layer(x, state), literal(layer)(x, state))
    assert launches == [2, 2]  # two layers


def test_a_change_in_place_is_noticed(launches):
    layer, x, _ = problem(LAYERS["RNN"](), torch.float32)
    for changed in ("weight_hh_l0", "weight_hh_l0_reverse"):
        total = layer(x)[0].sum()
        with torch.no_grad():
            getattr(layer, changed).add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            total.backward()
    assert set(launches) == {2}


@pytest.mark.parametrize("backend", ["eager", "loop"])
def test_other_backends_run_one_after_the_other(backend, launches, monkeypatch):
    layer, x, state = problem(LAYERS["LSTM"](), torch.float64)
    expected = answers(layer, x, state)
    launches.clear()
    counts = []
    run = ENGINES["eager"].forward
    monkeypatch.setattr(ENGINES["eager"], "forward", lambda *r: (counts.append(len(r)), run(*r)))
    monkeypatch.setenv("ELMAN_BACKEND", backend)
    assert_close(answers(layer, x, state), expected)
    assert not launches and set(counts) <= {1}


class Twice(elman.Recurrent):
    def run(self, *arguments):
        outputs, state, states = super().run(*arguments)
        return 2 * outputs, state, states


def test_a_layer_that_runs_otherwise_is_asked(launches):
    layer = elman.Bidirectional(GRU(I, H), Twice(GRU(I, H), reverse=True))
    x = torch.randn(T, B, I)
    expected = torch.cat([layer.forward_layer(x)[0], layer.backward_layer(x)[0]], dim=-1)
    assert_equal(layer(x)[0], expected)
    assert set(launches) == {1}


def test_segments_run_one_after_the_other(launches):
    layer, x, state = problem(LAYERS["LSTM"](memory="recompute"), torch.float64)
    found = answers(layer, x, state, **OPTIONS["reset"])
    assert set(launches) == {1}
    assert_close(found, answers(literal(layer), x, state, **OPTIONS["reset"]))


def test_both_are_checked(launches, monkeypatch):
    monkeypatch.setenv("ELMAN_CHECK", "1")
    layer, x, state = problem(LAYERS["Bidirectional"](), torch.float64)
    answers(layer, x, state, **OPTIONS["all"])
    assert set(launches) == {2}


def test_under_autocast(launches):
    layer, x, _ = problem(LAYERS["LSTM"](), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x.detach().bfloat16())
    assert set(launches) == {2} and leaves(found)[0].dtype is torch.bfloat16  # as torch.nn's
    exact = layer(x.detach().bfloat16().float())
    assert_close(found, mapped(lambda each: each.bfloat16(), exact))


def test_a_sequence_has_the_same_bits_in_any_batch(threads, launches):
    layer = randomise(both(LayerNormLSTM(I, H), GRU(I, H, False), deterministic="batch"))
    x = torch.randn(T, B, I)
    together, _ = layer(x)
    for b in range(B):
        assert_equal(layer(x[:, b : b + 1])[0], together[:, b : b + 1])
    assert set(launches) == {2}


@pytest.mark.parametrize("own", [False, True], ids=["openmp", "own threads"])
def test_several_python_threads(own, launches, monkeypatch):
    """Each in its own graph; loops of one call may then run on one thread, one after the other."""
    openmp._launcher.cache_clear()
    if own:
        monkeypatch.setattr(openmp, "_openmp", lambda: None)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    layer, x, state = problem(LAYERS["LSTM"](), torch.float32)
    expected = answers_of(layer, x, state)
    found = [None] * 4

    def work(number):
        for _ in range(10):
            found[number] = answers_of(layer, x.detach().clone().requires_grad_(), state)

    workers = [threading.Thread(target=work, args=[n], daemon=True) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    torch.set_num_threads(before)
    openmp._launcher.cache_clear()
    for each in found:
        assert_equal(each, expected)
    assert openmp._taken.threads == 0 and set(launches) == {2}


def answers_of(layer, x, state):
    """As `answers`, without the random numbers that all Python threads share."""
    results = leaves(layer(x, state, lengths=torch.tensor([3, 0, 7, 1, 7])))
    return results, gradients(results, [x, *layer.parameters()])


def test_the_threads_go_half_to_each(monkeypatch):
    """Four threads: two meet after each step of one direction, two after those of the other."""
    monkeypatch.setattr(openmp, "max_threads", lambda: 4)
    layer = elman.LSTM(8, 256, bidirectional=True)
    x = torch.randn(40, 2, 8)
    (one, other) = layer.plan(batch_size=2).cells
    assert one.threads == other.threads
    assert one.threads.startswith("2 at batch size 2, each with some of the units")
    assert one.threads.endswith("at the same time as the other direction")
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    found = layer(x)
    monkeypatch.setattr(openmp, "max_threads", lambda: 1)
    assert_equal(found, layer(x))
    torch.set_num_threads(before)


def test_fewer_threads_for_the_backward_pass(monkeypatch):
    """Who takes a thread away between the two has it taken away."""
    taken = []
    run = openmp.run
    monkeypatch.setattr(openmp, "run", lambda *call: (taken.append(call[-1]), run(*call)))
    layer = elman.LSTM(8, 64, bidirectional=True)
    x = torch.randn(50, 4, 8)
    for count in (2, 1):
        monkeypatch.setattr(openmp, "max_threads", lambda: 2)
        outputs, _ = layer(x)
        monkeypatch.setattr(openmp, "max_threads", lambda count=count: count)
        outputs.sum().backward()
    assert taken == [2, 2, 2, 1]
    ahead, back = layer.weight_hh_l0.grad, layer.weight_hh_l0_reverse.grad
    layer.zero_grad()
    layer(x)[0].sum().backward()
    assert_equal((ahead, back), (2 * layer.weight_hh_l0.grad, 2 * layer.weight_hh_l0_reverse.grad))


def test_the_plan_tells(monkeypatch):
    def told(layer, threads=2, batch_size=16):
        monkeypatch.setattr(openmp, "max_threads", lambda: threads)
        return {cell.threads for cell in layer.plan(batch_size=batch_size).cells}

    beside = {"one at batch size 16; at the same time as the other direction"}
    assert told(elman.GRU(8, 64, bidirectional=True, num_layers=2)) == beside
    assert told(elman.Bidirectional(MGU(8, 64), MGU(8, 64))) == beside
    assert told(elman.GRU(8, 64, bidirectional=True), threads=1) == {"one at batch size 16"}
    assert told(elman.GRU(8, 64)) == {"2 at batch size 16, each with rows of its own"}
    unequal = told(elman.Bidirectional(LSTM(8, 32), LSTM(8, 128)))
    assert all("same time" not in text for text in unequal)
    (text,) = told(elman.GRU(8, 64, bidirectional=True, memory="recompute"))
    assert text.endswith("not beside the other direction, as memory is recomputed")
    (text,) = told(elman.GRU(8, 64, bidirectional=True, memory=10**6))
    assert text.endswith("at the same time as the other direction unless memory is recomputed")
    loop = told(elman.GRU(8, 64, bidirectional=True, backend="loop"))
    assert loop == {"as torch shares out each of its operations"}
