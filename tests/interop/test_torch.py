"""Whole models to torch.nn's layers and back, and the tools that know torch.nn alone."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.ao.pruning._experimental.pruner import LSTMSaliencyPruner
from torch.ao.quantization import get_default_qconfig_mapping, quantize_dynamic
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torch.nn.utils import parametrizations
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.utils.flop_counter import FlopCounterMode

import elman
from elman import cells
from elman.errors import BackendError, OptionError, ShapeError
from tests.support import assert_close, assert_equal

PAIRS = [(elman.RNN, nn.RNN), (elman.LSTM, nn.LSTM), (elman.GRU, nn.GRU)]
EACH = pytest.mark.parametrize("ours,theirs", PAIRS, ids=[a.__name__ for a, _ in PAIRS])
I, H, T, B = 6, 4, 5, 3


class Model(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.embed, self.rnn, self.head = nn.Linear(I, I), layer, nn.Linear(H, 2)

    def forward(self, x):
        y, _ = self.rnn(self.embed(x))
        return self.head(y)


@pytest.fixture
def x():
    return torch.randn(T, B, I)


# ---------------------------------------------------------------- there and back


@EACH
@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
def test_a_model_goes_to_torch_and_back_with_all_that_it_has(ours, theirs, inplace, x):
    model = Model(ours(I, H, num_layers=2, dropout=0.5)).eval()
    expected, before = model(x), copy.deepcopy(model)
    parameters = list(model.parameters())
    there = elman.to_torch(model, inplace=inplace)
    assert (there is model) is inplace
    assert type(there.rnn) is theirs and not there.rnn.training
    assert type(model.rnn) is (theirs if inplace else ours)
    assert repr(there) == repr(before) and vars(there.rnn).keys() <= vars(theirs(I, H)).keys()
    assert_close(there(x), expected)
    back = elman.from_torch(there, inplace=inplace, backend="llvm", zoneout=0.0)
    assert type(back.rnn) is ours and back.rnn.execution.backend == "llvm"
    assert_equal(back(x), expected)
    same = [a is b for a, b in zip(back.parameters(), parameters, strict=True)]
    assert all(same) if inplace else not any(same)


@EACH
def test_a_layer_itself_is_converted(ours, theirs, x):
    layer = ours(I, H)
    there = elman.to_torch(layer)
    assert type(there) is theirs and type(layer) is ours
    assert_close(there(x), layer(x))
    assert type(elman.from_torch(there)) is ours


def test_tied_parameters_shared_layers_and_hooks_stay_what_they_are(x):
    shared, tied = elman.GRU(I, I), elman.GRU(I, I)
    tied.weight_hh_l0 = shared.weight_hh_l0
    model = nn.ModuleList([shared, shared, tied])
    calls = []
    tied.register_forward_hook(lambda *_: calls.append(1))
    there = elman.to_torch(model)
    assert there[0] is there[1] and type(there[0]) is nn.GRU
    assert there[2].weight_hh_l0 is there[0].weight_hh_l0
    assert there[2].weight_hh_l0 is not shared.weight_hh_l0
    there[2](x)
    assert calls == [1]
    back = elman.from_torch(there, inplace=True)
    assert back[0] is back[1] and back[2].weight_hh_l0 is back[0].weight_hh_l0
    assert_close(back[2](x), tied(x))


def test_parametrised_layers_stay_parametrised(x):
    layer = elman.LSTM(I, H)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    expected = layer(x)
    elman.to_torch(layer, inplace=True)  # torch cannot copy a parametrised layer of these
    assert isinstance(layer, nn.LSTM) and not isinstance(layer, elman.LSTM)
    assert_close(layer(x), expected)
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(2)
    expected = layer(x)
    elman.from_torch(layer, inplace=True)
    assert isinstance(layer, elman.LSTM)
    assert_close(layer(x), expected)


@pytest.mark.parametrize("rate", [{"zoneout": 0.1}, {"state_dropout": 0.2}, {"weight_drop": 0.3}])
@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
def test_rates_that_torch_has_not_are_refused_before_anything_changes(rate, inplace):
    model = nn.ModuleDict({"a": elman.GRU(I, H), "b": elman.LSTM(I, H, **rate)})
    ((name, value),) = rate.items()
    with pytest.raises(OptionError, match=rf"no {name}={value} as 'b' \(LSTM\) has"):
        elman.to_torch(model, inplace=inplace)
    assert type(model["a"]) is elman.GRU
    model["b"].regularisers = elman.layers.Regularisers()
    assert type(elman.to_torch(model)["b"]) is nn.LSTM


@pytest.mark.parametrize("options", [{"zoneout": {"c": 0.5}}, {"backend": "gpu"}, {"zoneout": 2}])
def test_options_that_do_not_fit_are_refused_before_anything_changes(options):
    model = nn.ModuleList([nn.LSTM(I, H), nn.GRU(I, H)])
    with pytest.raises(OptionError):
        elman.from_torch(model, inplace=True, **options)
    assert [type(m) for m in model] == [nn.LSTM, nn.GRU]


def test_what_has_no_counterpart_is_told_of_and_left():
    class Own(nn.GRU):
        pass

    class OwnOfOurs(elman.GRU):
        pass

    stack = elman.Stack([elman.LSTM(I, H), cells.MGU(H, H)])
    model = nn.ModuleDict({"stack": stack, "own": OwnOfOurs(I, H), "gru": elman.GRU(I, H)})
    with pytest.warns(RuntimeWarning, match=r"nothing like 'stack' \(Stack\), 'own' \(OwnOfOurs\)"):
        there = elman.to_torch(model)
    assert type(there["gru"]) is nn.GRU and type(there["stack"].layers[0]) is elman.LSTM
    with pytest.warns(RuntimeWarning, match=r"'0' \(Own\) derive from torch.nn's layers"):
        assert type(elman.from_torch(nn.Sequential(Own(I, H)))[0]) is Own
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        elman.to_torch(nn.Linear(2, 2))
        elman.from_torch(there, inplace=True)


# ---------------------------------------------------------------- tools


def test_dynamic_quantization_after_the_conversion(x):
    model, x = Model(elman.LSTM(I, H)).float().eval(), x.float()
    found = quantize_dynamic(elman.to_torch(model), {nn.LSTM, nn.Linear})
    assert isinstance(found.rnn, torch.ao.nn.quantized.dynamic.LSTM)
    torch.testing.assert_close(found(x), model(x), atol=0.1, rtol=0.1)


def test_a_structured_pruner_after_the_conversion(x):
    model = Model(elman.LSTM(I, H)).eval()
    pruner = LSTMSaliencyPruner({"sparsity_level": 0.5})
    names = [{"tensor_fqn": f"rnn.{name}"} for name in ("weight_ih_l0", "weight_hh_l0")]
    pruner.prepare(elman.to_torch(model, inplace=True), names)
    pruner.step()
    pruned = pruner.prune()
    expected = pruned(x)
    back = elman.from_torch(pruned, inplace=True)
    assert isinstance(back.rnn, elman.LSTM) and back.rnn.hidden_size == 2
    assert_close(back(x), expected)


@EACH
def test_a_layer_that_is_made_smaller_is_another_one(ours, theirs, x):
    """What structured pruners do: other parameters, then another size."""
    pair = ours(I, H), theirs(I, H)
    pair[0](x)
    gates = pair[0].weight_hh_l0.shape[0] // H
    small = theirs(I, 2)
    for layer in pair:
        for name, value in small.named_parameters():
            setattr(layer, name, nn.Parameter(value.detach().clone()))
    with pytest.raises(
        ShapeError, match=rf"'weight_ih_l0' must be \[{gates * H}, 6\].*hidden_size=4"
    ):
        pair[0](x)
    for layer in pair:
        layer.hidden_size = 2
    assert_close(pair[0](x), pair[1](x))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: elman.LSTM(I, H),
        lambda: elman.GRU(I, H, batch_first=True),
        lambda: elman.Recurrent(cells.MGU(I, H)),
        lambda: elman.Stack([cells.GRU(I, H)]),
    ],
    ids=["LSTM", "GRU", "Recurrent", "Stack"],
)
def test_to_fx_a_layer_is_one_node(layer, x):
    model = Model(layer())
    graph = torch.fx.symbolic_trace(model)
    assert [node.target for node in graph.graph.nodes if node.op == "call_module"] == [
        *("embed", "rnn", "head")
    ]
    assert_equal(graph(x), model(x))
    with pytest.raises(BackendError, match="torch.fx takes .* as one operation.*: trace a module"):
        torch.fx.symbolic_trace(model.rnn)


def test_fx_keeps_the_further_arguments():
    class Masked(Model):
        def forward(self, x, lengths):
            y, (h, _) = self.rnn(self.embed(x), lengths=lengths)
            return self.head(y), h

    model, x, lengths = Masked(elman.LSTM(I, H)), torch.randn(T, B, I), torch.tensor([5, 2, 0])
    assert_equal(torch.fx.symbolic_trace(model)(x, lengths), model(x, lengths))


def test_quantization_of_a_graph_leaves_the_layer_one_node(x):
    model = Model(elman.LSTM(I, H)).float().eval()
    x = x.float()
    prepared = prepare_fx(model, get_default_qconfig_mapping("x86"), (x,))
    prepared(x)
    found = convert_fx(prepared)
    assert isinstance(found.rnn, elman.LSTM)
    torch.testing.assert_close(found(x), model(x), atol=0.1, rtol=0.1)


@EACH
@pytest.mark.parametrize("batch_first", [True, False])
def test_per_sample_gradients_are_those_of_each_sample_alone(ours, theirs, batch_first):
    layer = ours(I, H, num_layers=2, batch_first=batch_first)
    x = torch.randn(B, T, I) if batch_first else torch.randn(T, B, I)
    call = call_for_per_sample_grads(layer, batch_size=B, batch_first=batch_first)
    call(x)[0].square().sum().backward()
    for b in range(B):
        one = x[b : b + 1] if batch_first else x[:, b : b + 1]
        expected = torch.autograd.grad(layer(one)[0].square().sum(), list(layer.parameters()))
        assert_close([p.grad_sample[b] for p in layer.parameters()], expected)


def test_the_flop_counter_counts_every_product(x):
    layer = elman.LSTM(I, H)
    products = 2 * T * B * 4 * H * (I + H)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(x)
    assert counter.get_total_flops() == products
    with FlopCounterMode(display=False) as counter:
        layer(x.requires_grad_())[0].sum().backward()
    # Twice as many backward, but for the state before the first step, which wants no gradient.
    assert counter.get_total_flops() == 3 * products - 2 * B * 4 * H * H


@EACH
def test_weights_that_are_set_as_torchs_flat_weights_are_used(ours, theirs, x):
    pair = ours(I, H), theirs(I, H)
    pair[0].load_state_dict(pair[1].state_dict())
    pair[0](x)
    given = [nn.Parameter(w.detach() / 2) for w in pair[1]._flat_weights]
    for layer in pair:
        layer._flat_weights = list(given)
    assert_close(pair[0](x), pair[1](x))
    for layer in pair:
        layer._flat_weights[1] = nn.Parameter(given[1].detach() + 1)
    assert_close(pair[0](x), pair[1](x))
    for layer in pair:
        layer.weight_hh_l0 = nn.Parameter(given[1].detach() - 1)
    assert_close(pair[0](x), pair[1](x))


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_autocast_returns_the_dtypes_that_torchs_layers_return(ours, theirs, dtype, packed):
    """torch's kernel of the LSTM needs a processor with bfloat16, but for packed sequences."""
    layer, other = ours(I, H).float(), theirs(I, H).float()
    x = torch.randn(T, B, I).to(dtype)
    given = nn.utils.rnn.pack_padded_sequence(x, [T, 3, 2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, state = layer(given if packed else x)
        expected, last = other(given)
    assert outputs[0].dtype is expected[0].dtype
    found, wanted = (s if isinstance(s, tuple) else (s,) for s in (state, last))
    assert [s.dtype for s in found] == [s.dtype for s in wanted]


@pytest.mark.parametrize("convert", [elman.from_torch, elman.to_torch])
def test_what_cannot_be_copied_is_converted_in_place(convert):
    kind = nn.LSTM if convert is elman.from_torch else elman.LSTM
    model = nn.utils.weight_norm(kind(3, 4), "weight_hh_l0")
    x = torch.randn(5, 2, 3)
    expected = model(x)[0]
    with pytest.raises(OptionError, match="inplace=True"):
        convert(model)
    torch.testing.assert_close(convert(model, inplace=True)(x)[0], expected)
    with pytest.raises(OptionError, match="Module"):
        convert(3)
