"""The inputs that torch's own tests of modules use, which come with torch."""

import sys
import unittest
from types import ModuleType

import pytest
import torch
from torch import nn

import elman

OURS = {nn.RNN: elman.RNN, nn.LSTM: elman.LSTM, nn.GRU: elman.GRU}


@pytest.fixture(scope="session")
def infos():
    """For each of the three classes of torch.nn, what torch knows of its inputs."""
    # Beside the inputs stand test cases, on top of a library that the inputs do not need.
    library = ModuleType("expecttest")
    vars(library).update(TestCase=unittest.TestCase, ACCEPT=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "expecttest", sys.modules.get("expecttest", library))
        from torch.testing._internal.common_modules import module_db
    return {info.module_cls: info for info in module_db if info.module_cls in OURS}


@pytest.fixture(params=OURS, ids=lambda kind: kind.__name__)
def theirs(request):
    return request.param


@pytest.fixture
def cases(infos, theirs):
    """A function that makes (torch.nn's layer, elman's with its weights, args, kwargs) of every
    input that torch has for the class."""
    info = infos[theirs]

    def make(dtype=torch.float64, requires_grad=False, training=True):
        options = {"device": "cpu", "dtype": dtype, "requires_grad": requires_grad}
        for given in info.module_inputs_func(info, **options, training=training):
            built, call = given.constructor_input, given.forward_input
            layer = theirs(*built.args, **built.kwargs, dtype=dtype).train(training)
            ours = OURS[theirs](*built.args, **built.kwargs, dtype=dtype).train(training)
            ours.load_state_dict(layer.state_dict())
            yield layer, ours, call.args, call.kwargs

    return make
