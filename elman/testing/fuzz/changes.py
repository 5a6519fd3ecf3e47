"""What a program does to its layer between two calls."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from elman.cells.cell import Cell
from elman.layers.layer import detach
from elman.testing.fuzz.cells import Settings
from elman.testing.fuzz.world import World

#: r is a number that says which: the layer decides of how many.
Change = Callable[[World, int], None]
CHANGES: dict[str, Change] = {}


def change(function: Change) -> Change:
    """Enter a change under its name."""
    CHANGES[function.__name__.strip("_").replace("_", " ")] = function
    return function


def _pick(w: World, r: int) -> tuple[nn.Module, str, nn.Parameter] | None:
    """A parameter: whose it is, and under what name."""
    named = w.parameters()
    if not named:
        return None
    name, parameter = named[r % len(named)]
    path, _, last = name.rpartition(".")
    return w.layer.get_submodule(path), last, parameter


def _in_place(act: Callable[[World, Tensor], Any]) -> Change:
    def done(w: World, r: int) -> None:
        found = _pick(w, r)
        if found is not None:
            with torch.no_grad():
                act(w, found[2])

    return done


def _past_autograd(act: Callable[[World, Tensor], Any]) -> Change:
    """A change that torch does not see: a state whose graph reads the weights goes on without it,
    because it would compute with other numbers than it was made of, there as here."""
    done = _in_place(act)

    def done_and_detached(w: World, r: int) -> None:
        done(w, r)
        w.state = detach(w.state)

    return done_and_detached


# ------------------------------------------------------------------ weights


def _swap_rows(w: World, p: Tensor) -> None:
    if p.dim() and len(p) > 1:
        p[[0, -1]] = p[[-1, 0]]


def _transpose(w: World, p: Tensor) -> None:
    if p.dim() == 2 and p.shape[0] == p.shape[1]:
        p.copy_(p.t().clone())


def _set_data(w: World, p: Tensor) -> None:
    p.data = w.like("data", p)


def _some_signs(w: World, p: Tensor) -> None:
    p.copy_(torch.where(w.chance("signs", *p.shape) < 0.3, -p, p))


CHANGES |= {
    "negate": _in_place(lambda w, p: p.neg_()),
    "negate data": _past_autograd(lambda w, p: p.data.neg_()),
    "flip some signs": _in_place(_some_signs),
    "swap rows": _in_place(_swap_rows),
    "transpose": _in_place(_transpose),
    "copy": _in_place(lambda w, p: p.copy_(w.like("copy", p))),
    "copy to data": _past_autograd(lambda w, p: p.data.copy_(w.like("copy", p))),
    "set data": _past_autograd(_set_data),
    "scale": _in_place(lambda w, p: p.mul_(0.5)),
    "nearly nothing": _in_place(lambda w, p: p.mul_(1 + 1e-6)),
}


@change
def _exchange_two(w: World, r: int) -> None:
    """The values of two weights of one shape."""
    found = _pick(w, r)
    if found is not None:
        others = [p for _, p in w.parameters() if p.shape == found[2].shape and p is not found[2]]
        if others:
            with torch.no_grad():
                other = others[r % len(others)]
                value = other.clone()
                other.copy_(found[2])
                found[2].copy_(value)


@change
def _new_parameter(w: World, r: int) -> None:
    found = _pick(w, r)
    if found is not None:
        setattr(found[0], found[1], nn.Parameter(w.like("new", found[2])))


@change
def _tie(w: World, r: int) -> None:
    """Two parameters of one shape become one."""
    found = _pick(w, r)
    if found is not None:
        for name, p in w.parameters():
            if p.shape == found[2].shape and p is not found[2]:
                path, _, last = name.rpartition(".")
                setattr(w.layer.get_submodule(path), last, found[2])
                return


@change
def _descend(w: World, r: int) -> None:
    """A step of an optimizer, with the gradients that are there."""
    kind: Any = (torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop)[r % 3]
    ps = [p for _, p in w.parameters() if p.grad is not None and bool(p.grad.isfinite().all())]
    # Adam divides by the size of a gradient: of one that is 0 but for rounding, noise would come.
    if kind is not torch.optim.SGD:
        ps = [p for p in ps if p.grad is not None and bool((p.grad.abs() > 1e-3).all())]
    if ps:
        torch.nn.utils.clip_grad_norm_(ps, 1.0)
        kind(ps, lr=0.0 if r % 7 == 0 else 0.05).step()


@change
def _zero_grad(w: World, r: int) -> None:
    w.layer.zero_grad(set_to_none=bool(r % 2))


@change
def _freeze(w: World, r: int) -> None:
    found = _pick(w, r)
    if found is not None:
        found[2].requires_grad_(False)


@change
def _freeze_all(w: World, r: int) -> None:
    w.layer.requires_grad_(False)


@change
def _unfreeze(w: World, r: int) -> None:
    w.layer.requires_grad_(True)


@change
def _load(w: World, r: int) -> None:
    values = {
        name: w.like(name, value) if value.is_floating_point() else value.clone()
        for name, value in w.layer.state_dict().items()
    }
    w.layer.load_state_dict(values, assign=bool(r % 2))


@change
def _as_one_vector(w: World, r: int) -> None:
    """All parameters become views of one vector."""
    ps = [p for _, p in w.parameters()]
    if ps:
        vector = nn.utils.parameters_to_vector(ps).detach().clone()
        nn.utils.vector_to_parameters(vector, ps)


# ------------------------------------------------------------------ the layer as a whole


@change
def _train(w: World, r: int) -> None:
    w.layer.train()


@change
def _evaluate(w: World, r: int) -> None:
    w.layer.eval()


@change
def _copy_deeply(w: World, r: int) -> None:
    w.layer = copy.deepcopy(w.layer)


@change
def _pickle_it(w: World, r: int) -> None:
    w.layer = pickle.loads(pickle.dumps(w.layer))


@change
def _to_float(w: World, r: int) -> None:
    w.kind = torch.float32
    w.dtype = torch.float64 if w.exact else w.kind
    w.layer.to(w.dtype)


@change
def _there_and_back(w: World, r: int) -> None:
    """To float32 and back: the weights are rounded."""
    w.layer.float().to(w.dtype)


# ------------------------------------------------------------------ what a step reads


def _cells(w: World) -> list[nn.Module]:
    return [m for m in w.layer.modules() if isinstance(m, Cell)]


@change
def _buffer(w: World, r: int) -> None:
    _change_buffer(w, r, new=False)


@change
def _new_buffer(w: World, r: int) -> None:
    _change_buffer(w, r, new=True)


def _change_buffer(w: World, r: int, new: bool) -> None:
    named = list(w.layer.named_buffers())
    if not named:
        return
    name, value = named[r % len(named)]
    path, _, last = name.rpartition(".")
    made = ~value if value.dtype is torch.bool else value * -2
    if new:
        setattr(w.layer.get_submodule(path), last, made)
    else:
        value.copy_(made)


@change
def _attribute(w: World, r: int) -> None:
    """A number, a private number, or a field of an object on a cell."""
    found = [
        (cell, name)
        for cell in _cells(w)
        for name, value in vars(cell).items()
        if isinstance(value, Settings) or "scale_" in name
    ]
    if not found:
        return
    cell, name = found[r % len(found)]
    value = getattr(cell, name)
    if isinstance(value, Settings):
        value.act = "sigmoid" if value.act == "tanh" else "tanh"
    else:
        setattr(cell, name, -0.6 * value)


def _inner(w: World) -> list[tuple[nn.Module, str, nn.Module]]:
    """The modules inside cells, and where they are."""
    return [
        (parent, name, child)
        for cell in _cells(w)
        for parent in cell.modules()
        for name, child in parent.named_children()
        if not isinstance(child, nn.ModuleDict | parametrize.ParametrizationList)
        and "parametriz" not in name
        and not isinstance(parent, parametrize.ParametrizationList)
    ]


@change
def _module(w: World, r: int) -> None:
    """An activation becomes another one."""
    found = [place for place in _inner(w) if isinstance(place[2], nn.Tanh | nn.Sigmoid | nn.ELU)]
    if found:
        parent, name, child = found[r % len(found)]
        kinds = [kind for kind in (nn.Tanh, nn.Sigmoid, nn.ELU) if not isinstance(child, kind)]
        setattr(parent, name, kinds[r % 2]())


def _doubled(module: nn.Module, args: Any) -> Any:
    return (args[0] * 2,)


def _shifted(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output * 0.5 + 0.1


@change
def _hook(w: World, r: int) -> None:
    found = _inner(w)
    if found:
        child = found[r % len(found)][2]
        if r % 2:
            child.register_forward_hook(_shifted)
        else:
            child.register_forward_pre_hook(_doubled)


@change
def _no_hooks(w: World, r: int) -> None:
    for _, _, child in _inner(w):
        for hooks in (child._forward_hooks, child._forward_pre_hooks):
            for key in [k for k, f in hooks.items() if f in (_shifted, _doubled)]:
                del hooks[key]


# ------------------------------------------------------------------ weights made of others


class _Scaled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 0.8 + 0.05 * torch.tanh(weight)


def _matrix(w: World, r: int) -> tuple[nn.Module, str] | None:
    """A weight matrix that is not made of others yet."""
    found = [
        (module, name)
        for module in w.layer.modules()
        for name, p in module._parameters.items()
        if p is not None and p.dim() == 2 and not name.startswith("original")
        and not isinstance(module, parametrize.ParametrizationList)
    ]  # fmt: skip
    return found[r % len(found)] if found else None


@change
def _parametrise(w: World, r: int) -> None:
    found = _matrix(w, r)
    if found is None:
        return
    module, name = found
    if r % 3 == 0:
        parametrizations.weight_norm(module, name)
    elif r % 3 == 1:
        parametrize.register_parametrization(module, name, _Scaled())
    else:
        parametrizations.orthogonal(module, name, orthogonal_map="cayley", use_trivialization=False)


@change
def _unparametrise(w: World, r: int) -> None:
    for module in list(w.layer.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=bool(r % 2))


def _linear(w: World, r: int) -> nn.Module | None:
    found = [child for _, _, child in _inner(w) if isinstance(child, nn.Linear)]
    return found[r % len(found)] if found else None


@change
def _old_weight_norm(w: World, r: int) -> None:
    linear = _linear(w, r)
    if linear is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nn.utils.weight_norm(linear)


@change
def _old_spectral_norm(w: World, r: int) -> None:
    linear = _linear(w, r)
    if linear is not None:
        nn.utils.spectral_norm(linear)


@change
def _prune_some(w: World, r: int) -> None:
    linear = _linear(w, r)
    if linear is not None:
        pruning: Any = prune
        pruning.random_unstructured(linear, "weight", 0.4)
        if r % 2:
            pruning.remove(linear, "weight")
