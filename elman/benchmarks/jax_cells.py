"""The cells as `jax.lax.scan`, with the input product before the loop.

Importing this file raises ImportError where jax is not installed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

jax: Any = import_module("jax")
jnp: Any = import_module("jax.numpy")

Array = Any
Params = dict[str, Array]
#: mul(h, name): h [B, in] times the matrix [out, in] of that name.
Mul = Callable[[Array, str], Array]

sigmoid, tanh = jax.nn.sigmoid, jnp.tanh


@dataclass(frozen=True)
class JaxCell:
    """A cell for `jax.lax.scan`.

    step(p, mul, z, *state) -> state', z [B, G] being what `before` made of x.
    before(p, x) -> [T, B, G]. matrices(p): those that the step multiplies with, [out, in].
    """

    step: Callable[..., tuple[Array, ...]]
    before: Callable[[Params, Array], Array]
    matrices: Callable[[Params], Params]


def _input(p: Params, x: Array) -> Array:
    bias = p["bias_ih"] + p["bias_hh"] if "bias_hh" in p else p["bias_ih"]
    return x @ p["weight_ih"].T + bias


def _input_bias_alone(p: Params, x: Array) -> Array:
    return x @ p["weight_ih"].T + p["bias_ih"]


def _recurrent(p: Params) -> Params:
    return {"U": p["weight_hh"]}


def _normalised(z: Array, gain: Array, bias: Array) -> Array:
    centred = z - z.mean(-1, keepdims=True)
    return gain * centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) + bias


def _lstm(p: Params, mul: Mul, z: Array, h: Array, c: Array) -> tuple[Array, ...]:
    i, f, g, o = jnp.split(z + mul(h, "U"), 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def _gru(p: Params, mul: Mul, z: Array, h: Array) -> tuple[Array, ...]:
    x_r, x_z, x_n = jnp.split(z, 3, -1)
    h_r, h_z, h_n = jnp.split(mul(h, "U") + p["bias_hh"], 3, -1)
    n = tanh(x_n + sigmoid(x_r + h_r) * h_n)
    keep = sigmoid(x_z + h_z)
    return (keep * h + (1 - keep) * n,)


def _reset_before_gru(p: Params, mul: Mul, z: Array, h: Array) -> tuple[Array, ...]:
    x_r, x_z, x_n = jnp.split(z, 3, -1)
    h_r, h_z = jnp.split(mul(h, "U_rz"), 2, -1)
    n = tanh(x_n + mul(sigmoid(x_r + h_r) * h, "U_n"))
    keep = sigmoid(x_z + h_z)
    return (keep * h + (1 - keep) * n,)


def _two_of_three(p: Params) -> Params:
    H = p["weight_hh"].shape[1]
    return {"U_rz": p["weight_hh"][: 2 * H], "U_n": p["weight_hh"][2 * H :]}


def _elman(p: Params, mul: Mul, z: Array, h: Array) -> tuple[Array, ...]:
    return (tanh(z + mul(h, "U")),)


def _layer_norm_lstm(p: Params, mul: Mul, z: Array, h: Array, c: Array) -> tuple[Array, ...]:
    i, f, g, o = jnp.split(z + _normalised(mul(h, "U"), p["gain_hh"], 0.0), 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(_normalised(c, p["gain_c"], p["bias_c"])), c


def _normalised_input(p: Params, x: Array) -> Array:
    return _normalised(x @ p["weight_ih"].T, p["gain_ih"], p["bias_ih"])


def _peephole_lstm(p: Params, mul: Mul, z: Array, h: Array, c: Array) -> tuple[Array, ...]:
    i, f, g, o = jnp.split(z + mul(h, "U"), 4, -1)
    p_i, p_f, p_o = jnp.split(p["weight_peephole"], 3)
    c_next = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * tanh(g)
    return sigmoid(o + p_o * c_next) * tanh(c_next), c_next


def _slstm(
    p: Params, mul: Mul, gates: Array, h: Array, c: Array, n: Array, m: Array
) -> tuple[Array, ...]:
    i, f, z, o = jnp.split(gates + mul(h, "U"), 4, -1)
    kept = jnp.where(n == 0, i, m + jax.nn.log_sigmoid(f))
    m = jnp.maximum(kept, i)
    i, f = jnp.exp(i - m), jnp.exp(kept - m)
    c = f * c + i * tanh(z)
    n = f * n + i
    return sigmoid(o) * c / n, c, n, m


def _projected_lstm(p: Params, mul: Mul, z: Array, h: Array, c: Array) -> tuple[Array, ...]:
    h, c = _lstm(p, mul, z, h, c)
    return mul(h, "P"), c


def _jordan(p: Params, mul: Mul, z: Array, y: Array) -> tuple[Array, ...]:
    return (mul(tanh(z + mul(y, "U")), "V") + p["bias_hy"],)


def _custom(p: Params, mul: Mul, z: Array, h: Array, m: Array) -> tuple[Array, ...]:
    a = sigmoid(p["decay"])
    m = a * m + (1 - a) * h
    x_f, x_n = jnp.split(z, 2, -1)
    f = sigmoid(x_f + mul(h, "U_f") + p["peephole"] * m)
    n = tanh(x_n + mul(f * h, "U_n"))
    return (1 - f) * h + f * n, m


CELLS = {
    "lstm": JaxCell(_lstm, _input, _recurrent),
    "gru": JaxCell(_gru, _input_bias_alone, _recurrent),
    "elman": JaxCell(_elman, _input, _recurrent),
    "layer-norm-lstm": JaxCell(_layer_norm_lstm, _normalised_input, _recurrent),
    "peephole-lstm": JaxCell(_peephole_lstm, _input_bias_alone, _recurrent),
    "reset-before-gru": JaxCell(_reset_before_gru, _input, _two_of_three),
    "slstm": JaxCell(_slstm, _input_bias_alone, _recurrent),
    "projected-lstm": JaxCell(
        _projected_lstm, _input, lambda p: {"U": p["weight_hh"], "P": p["weight_hr"]}
    ),
    "jordan": JaxCell(
        _jordan, _input_bias_alone, lambda p: {"U": p["weight_yh"], "V": p["weight_hy"]}
    ),
    "custom": JaxCell(
        _custom,
        lambda p, x: x @ p["W.weight"].T + p["W.bias"],
        lambda p: {"U_f": p["U_f.weight"], "U_n": p["U_n.weight"]},
    ),
}
