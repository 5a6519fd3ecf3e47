"""elman's RNN, LSTM and GRU beside torch.nn's, on the inputs of torch's own tests of modules.

What costs more than a call of each is tried on every third input.
"""

import copy
import pickle

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_map_only

from tests.support import assert_close, assert_equal, gradients, leaves
from tests.torch_nn.conftest import OURS

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def tensors(args, kwargs):
    """The tensors of the arguments of a call, and a function that puts others in their place."""
    flat, spec = tree_flatten((args, kwargs))
    places = [i for i, value in enumerate(flat) if isinstance(value, torch.Tensor)]

    def put(values):
        there = list(flat)
        for place, value in zip(places, values, strict=True):
            there[place] = value
        return spec.unflatten(there)

    return [flat[i] for i in places], put


@DTYPES
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_outputs_and_states_are_those_of_torch(cases, dtype, training):
    for theirs, ours, args, kwargs in cases(dtype, training=training):
        found, expected = ours(*args, **kwargs), theirs(*args, **kwargs)
        assert type(found) is type(expected)
        assert_close(found, expected)


def test_gradients_are_those_of_torch(cases):
    for theirs, ours, args, kwargs in cases(requires_grad=True):
        given, _ = tensors(args, kwargs)
        wrt = [(*given, *layer.parameters()) for layer in (ours, theirs)]
        found, expected = (
            gradients(layer(*args, **kwargs), w)
            for layer, w in zip((ours, theirs), wrt, strict=True)
        )
        assert_close(found, expected)


def test_gradients_of_gradients_are_those_of_finite_differences(cases):
    for _, ours, args, kwargs in list(cases(requires_grad=True))[2::3]:
        given, put = tensors(args, kwargs)

        def run(*values, ours=ours, put=put):
            args, kwargs = put(values)
            return tuple(leaves(ours(*args, **kwargs)))

        assert torch.autograd.gradcheck(run, given, fast_mode=True)
        assert torch.autograd.gradgradcheck(run, given, fast_mode=True)


@pytest.mark.parametrize(
    "again",
    [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))],
    ids=["copy", "pickle"],
)
def test_copied_and_pickled_layers_compute_the_same(cases, again):
    for _, ours, args, kwargs in list(cases())[::3]:
        assert_equal(again(ours)(*args, **kwargs), ours(*args, **kwargs))


def test_a_layer_prints_and_names_its_parameters_as_torchs_does(cases):
    for theirs, ours, *_ in cases():
        assert repr(ours) == repr(theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
        flat = [w.shape for row in ours.all_weights for w in row]
        assert flat == [w.shape for row in theirs.all_weights for w in row]


def test_a_layer_moves_between_dtypes_and_devices_as_torchs_does(cases):
    for theirs, ours, *given in list(cases())[::3]:
        args, kwargs = tree_map_only(torch.Tensor, torch.Tensor.float, given)
        assert_close(ours.float()(*args, **kwargs), theirs.float()(*args, **kwargs))
        args, kwargs = tree_map_only(torch.Tensor, lambda t: t.to("meta"), (args, kwargs))
        found, expected = (layer.to("meta")(*args, **kwargs) for layer in (ours, theirs))
        assert [f.shape for f in leaves(found)] == [e.shape for e in leaves(expected)]
        assert all(f.is_meta for f in leaves(found))


def test_what_is_made_on_a_device_of_ones_choice_is_there(cases):
    for theirs, *_ in list(cases())[:1]:
        kind = OURS[type(theirs)]
        assert all(p.is_meta for p in kind(2, 3, num_layers=2, device="meta").parameters())
        with torch.device("meta"):
            assert all(p.is_meta for p in kind(2, 3, num_layers=2).parameters())


def test_training_under_no_grad_and_with_frozen_parameters_is_torchs(cases):
    for theirs, ours, args, kwargs in list(cases())[1::3]:
        for layer in (theirs, ours):
            layer.requires_grad_(False)
            layer.weight_hh_l0.requires_grad_(True)
        pair = [leaves(layer(*args, **kwargs))[0].sum() for layer in (ours, theirs)]
        assert_close(
            torch.autograd.grad(pair[0], ours.weight_hh_l0),
            torch.autograd.grad(pair[1], theirs.weight_hh_l0),
        )


def test_wrong_inputs_raise_what_torchs_layers_raise(infos, theirs):
    info = infos[theirs]
    options = {"device": "cpu", "dtype": torch.float64, "requires_grad": False, "training": True}
    wrong = list(info.module_error_inputs_func(info, **options))
    assert wrong
    for each in wrong:
        built, call = (
            each.module_error_input.constructor_input,
            each.module_error_input.forward_input,
        )
        with pytest.raises(each.error_type, match=each.error_regex):
            layer = OURS[theirs](*built.args, **built.kwargs)
            layer(*call.args, **call.kwargs)
