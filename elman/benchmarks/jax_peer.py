"""A cell under `jax.lax.scan` and `jax.jit`.

Importing this file raises ImportError where jax is not installed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from elman.benchmarks.jax_cells import CELLS, Array, JaxCell, Params, jax, jnp
from elman.benchmarks.problem import Problem, Results
from elman.benchmarks.timing import Contestant

#: Which of these XLA likes best depends on the size: (matrices transposed before the loop, unroll).
SETTINGS = {"scan": (False, 1), "transposed": (True, 1), "transposed, unroll 4": (True, 4)}


def contestants(problem: Problem) -> list[Contestant] | None:
    """The settings of jax for this problem; None for a cell that is not written for jax here."""
    cell = CELLS.get(problem.subject.name)
    if cell is None:
        return None
    cpu = jax.devices("cpu")[0]
    values = {name: _array(p, cpu) for name, p in problem.cell.named_parameters()}
    x, cotangent = _array(problem.x, cpu), _array(problem.cotangent, cpu)
    sizes = tuple(problem.cell.state_sizes.values())
    found = []
    for setting, (transposed, unroll) in SETTINGS.items():
        forward = partial(_forward, cell, sizes, transposed, unroll)
        run = _run(forward, values, x, cotangent, problem.training)
        found.append(Contestant("JAX scan", setting, run, _results))
    return found


def _array(value: torch.Tensor, device: Any) -> Array:
    return jax.device_put(value.detach().numpy(), device)


def _forward(
    cell: JaxCell, sizes: tuple[int, ...], transposed: bool, unroll: int, p: Params, x: Array
) -> Array:
    """x: [T, B, I] -> outputs [T, B, O]."""
    matrices = cell.matrices(p)
    turned = {name: m.T for name, m in matrices.items()}

    def mul(h: Array, name: str) -> Array:
        return h @ turned[name] if transposed else h @ matrices[name].T

    def step(state: tuple[Array, ...], z: Array) -> tuple[tuple[Array, ...], Array]:
        state = cell.step(p, mul, z, *state)
        return state, state[0]

    start = tuple(jnp.zeros((x.shape[1], size), x.dtype) for size in sizes)
    return jax.lax.scan(step, start, cell.before(p, x), unroll=unroll)[1]


def _run(
    forward: Callable[[Params, Array], Array],
    values: Params,
    x: Array,
    cotangent: Array,
    training: bool,
) -> Callable[[], Any]:
    def loss(p: Params, x: Array, cotangent: Array) -> tuple[Array, Array]:
        outputs = forward(p, x)
        return (outputs * cotangent).sum(), outputs

    if training:
        both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
        return lambda: jax.block_until_ready(both(values, x, cotangent))
    infer = jax.jit(forward)
    return lambda: jax.block_until_ready(infer(values, x))


def _results(found: Any) -> Results:
    if not isinstance(found, tuple):
        return {"outputs": _tensor(found)}
    (_, outputs), (d_values, d_x) = found
    gradients = {f"d {name}": _tensor(d) for name, d in d_values.items()}
    return {"outputs": _tensor(outputs), "d x": _tensor(d_x), **gradients}


def _tensor(value: Array) -> torch.Tensor:
    return torch.from_numpy(jax.device_get(value).copy())
