"""What tests of cells and layers have in common."""

import torch
from torch import Tensor

from elman.testing import TOLERANCE


def leaves(nest) -> list[Tensor]:
    """The tensors of a nest of tuples, from left to right."""
    return [nest] if isinstance(nest, Tensor) else [leaf for part in nest for leaf in leaves(part)]


def mapped(change, *nests):
    """A nest like the first, made of change(leaf, ...) on the leaves at each place."""
    if isinstance(nests[0], Tensor):
        return change(*nests)
    return tuple(mapped(change, *parts) for parts in zip(*nests, strict=True))


def assert_close(actual, expected) -> None:
    """Equal shapes, dtypes and nests, and values within the tolerance of the dtype."""
    for a, e in zip(leaves(actual), leaves(expected), strict=True):
        tolerance = TOLERANCE[e.dtype].element
        torch.testing.assert_close(a, e, atol=tolerance, rtol=tolerance)


def assert_equal(actual, expected) -> None:
    """Equal in every bit."""
    for a, e in zip(leaves(actual), leaves(expected), strict=True):
        torch.testing.assert_close(a, e, atol=0, rtol=0)


def gradients(results, wrt) -> tuple[Tensor, ...]:
    """d(results . cotangents) / d(wrt), with the same random cotangents at every call."""
    generator = torch.Generator().manual_seed(1)
    total = sum(
        (r * torch.randn(r.shape, generator=generator, dtype=r.dtype)).sum()
        for r in leaves(results)
    )
    if not total.requires_grad:
        return tuple(torch.zeros_like(w) for w in wrt)
    return torch.autograd.grad(total, wrt, retain_graph=True, materialize_grads=True)


def assert_same(actual, expected, wrt) -> None:
    """Two ways to compute the same results: values, and gradients with respect to ``wrt``."""
    assert_close(actual, expected)
    assert_close(gradients(actual, wrt), gradients(expected, wrt))


def randomise(module):
    """The module with every parameter drawn anew, so that no bias is 0 and no gain is 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module


def parts(state) -> tuple[Tensor, ...]:
    """A state as the tuple of its parts."""
    return (state,) if isinstance(state, Tensor) else tuple(state)


def packed(state: tuple[Tensor, ...]):
    """A state as a layer returns it: the tensor itself where there is but one part."""
    return state[0] if len(state) == 1 else state


def zero_state(cell, *batch_shape):
    """The parts of a zero state."""
    return tuple(torch.zeros(*batch_shape, size) for size in cell.state_sizes.values())


def warm_state(cell, *batch_shape):
    """A state that the cell itself comes to: two steps from zero. A leaf for gradients."""
    state = zero_state(cell, *batch_shape)
    with torch.no_grad():
        for _ in range(2):
            state = parts(cell.step(torch.randn(*batch_shape, cell.input_size), *state))
    return tuple(s.clone().requires_grad_() for s in state)


def literal_loop(cell, x, state, *, reverse=False, truncate=None):
    """The oracle: one call of ``step`` a time step.

    x: [T, ..., I]   state: the tuple of its parts   ->   ([states_0, states_1, ...], last state),
    the states in the order of time whatever the direction.
    """
    states = [None] * len(x)
    for done, t in enumerate(reversed(range(len(x))) if reverse else range(len(x))):
        if truncate is not None and done % truncate == 0:
            state = tuple(s.detach() for s in state)
        state = parts(cell.step(x[t], *state))
        states[t] = state
    return states, state


def outputs_of(states):
    """[T, ..., O]: the first part of the state at each step."""
    return torch.stack([state[0] for state in states])
