"""torch.compile and the layers that are torch.nn.RNN, LSTM or GRU by inheritance.

torch.compile ends its graph at every instance of these three, since their loops would unroll into
it; ``torch._dynamo.config.allow_rnn`` says whether it does. Ours do not unroll. So it is told to
go on where the module is one of ours, and nothing changes for torch's own. And compiled autograd,
which reads the Python of backward passes, is told to call ours as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch import nn
from torch._compile import _disable_dynamo

from elman.runtime import function

#: The module of torch in which it is decided.
BUILDER = "torch._dynamo.variables.builder"


def let_through(kind: type[nn.Module]) -> None:
    """Let torch.compile trace modules of this kind, now or as soon as it is imported."""
    if BUILDER in sys.modules:
        _teach(sys.modules[BUILDER], kind)
    else:  # importing it takes as long as importing torch
        sys.meta_path.insert(0, _AfterImport(kind))


class _AfterImport(MetaPathFinder):
    def __init__(self, kind: type[nn.Module]) -> None:
        self.kind = kind

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_teach(module: ModuleType) -> None:
                run(module)
                _teach(module, self.kind)

            spec.loader.exec_module = run_and_teach  # type: ignore[method-assign]
        return spec


def _teach(builder: ModuleType, kind: type[nn.Module]) -> None:
    backward = function.LoopFunction.backward
    function.LoopFunction.backward = staticmethod(_disable_dynamo(backward))  # type: ignore[method-assign]
    config = builder.config
    wrap = getattr(builder.VariableBuilder, "wrap_module", None)
    if wrap is None or not hasattr(config, "allow_rnn"):
        return  # a version of torch that decides it elsewhere

    def wrap_module(self: Any, value: nn.Module) -> Any:
        if not isinstance(value, kind):
            return wrap(self, value)
        with config.patch(allow_rnn=True):
            return wrap(self, value)

    builder.VariableBuilder.wrap_module = wrap_module
