"""One time step of every recurrent cell in plain NumPy (float64), transcribed from the papers.

Parameters come as a dict of stacked arrays, and an equation number is cited only where checked.
"""

import numpy as np

Params = dict[str, np.ndarray]
State = tuple[np.ndarray, ...]


def sigmoid(a):
    """Return the logistic function of a."""
    return 1.0 / (1.0 + np.exp(-a))


def log_sigmoid(a):
    """Return log(sigmoid(a)) without overflow."""
    return -np.logaddexp(0.0, -a)


def relu(a):
    """Return the positive part of a."""
    return np.maximum(a, 0.0)


def identity(a):
    """Return a unchanged."""
    return a


def softmax(a):
    """Return the softmax of a over its last axis."""
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def lecun_tanh(a):
    """Return LeCun's scaled hyperbolic tangent, with the constants of the CfC authors' code."""
    return 1.7159 * np.tanh(0.666 * a)


def layer_norm(a, gain, shift, eps=1e-5):
    """Normalise a over its last axis to mean 0 and variance 1, then scale and shift it."""
    mean = a.mean(axis=-1, keepdims=True)
    variance = ((a - mean) ** 2).mean(axis=-1, keepdims=True)
    return gain * (a - mean) / np.sqrt(variance + eps) + shift


ACTIVATION = {
    "identity": identity,
    "relu": relu,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "tanh": np.tanh,
}


def param(p, name):
    """Return parameter `name` as float64, or 0 where it is missing."""
    value = p.get(name)
    return np.float64(0.0) if value is None else np.asarray(value, dtype=np.float64)


def block(p, name, order):
    """Split the rows of parameter `name` into equal blocks, one for each letter of `order`."""
    stacked = param(p, name)
    if stacked.ndim == 0:
        return dict.fromkeys(order, stacked)
    return dict(zip(order, np.split(stacked, len(order)), strict=True))


def affine(weight, a, bias=0.0):
    """Return weight @ a + bias for every vector a along the last axis."""
    return a @ weight.T + bias


def elman(p: Params, x, h, activation="tanh") -> State:
    """Elman 1990, Finding Structure in Time (the paper draws the network, without equations)."""
    w, b = param(p, "weight_ih"), param(p, "bias_ih")
    u, d = param(p, "weight_hh"), param(p, "bias_hh")
    h = ACTIVATION[activation](affine(w, x, b) + affine(u, h, d))
    return (h,)


def jordan(p: Params, x, y, activation="tanh", output_activation="identity") -> State:
    """Jordan 1986, Serial Order: A Parallel Distributed Processing Approach.

    The state is the previous output alone: the plan units and the state units' self-connections
    of the report are left out, as in the usual textbook form.
    """
    w, b = param(p, "weight_ih"), param(p, "bias_ih")
    u = param(p, "weight_yh")
    v, c = param(p, "weight_hy"), param(p, "bias_hy")
    h = ACTIVATION[activation](affine(w, x, b) + affine(u, y))
    y = ACTIVATION[output_activation](affine(v, h, c))
    return (y,)


def lstm(p: Params, x, h, c) -> State:
    """Hochreiter and Schmidhuber 1997, Long Short-Term Memory.

    The forget gate is from Gers, Schmidhuber and Cummins 2000, Learning to Forget.
    """
    w, b = block(p, "weight_ih", "ifgo"), block(p, "bias_ih", "ifgo")
    u, d = block(p, "weight_hh", "ifgo"), block(p, "bias_hh", "ifgo")
    i = sigmoid(affine(w["i"], x, b["i"]) + affine(u["i"], h, d["i"]))
    f = sigmoid(affine(w["f"], x, b["f"]) + affine(u["f"], h, d["f"]))
    g = np.tanh(affine(w["g"], x, b["g"]) + affine(u["g"], h, d["g"]))
    o = sigmoid(affine(w["o"], x, b["o"]) + affine(u["o"], h, d["o"]))
    c = f * c + i * g
    h = o * np.tanh(c)
    return h, c


def peephole_lstm(p: Params, x, h, c) -> State:
    """Gers, Schraudolph and Schmidhuber 2002, Learning Precise Timing with LSTM.

    The form with diagonal peepholes and two tanh is that of Graves 2013, Generating Sequences.
    """
    w, b = block(p, "weight_ih", "ifgo"), block(p, "bias_ih", "ifgo")
    u = block(p, "weight_hh", "ifgo")
    peep = block(p, "weight_peephole", "ifo")
    i = sigmoid(affine(w["i"], x, b["i"]) + affine(u["i"], h) + peep["i"] * c)
    f = sigmoid(affine(w["f"], x, b["f"]) + affine(u["f"], h) + peep["f"] * c)
    g = np.tanh(affine(w["g"], x, b["g"]) + affine(u["g"], h))
    c = f * c + i * g
    o = sigmoid(affine(w["o"], x, b["o"]) + affine(u["o"], h) + peep["o"] * c)
    h = o * np.tanh(c)
    return h, c


def coupled_lstm(p: Params, x, h, c) -> State:
    """Greff et al. 2017, LSTM: A Search Space Odyssey (the variant CIFG, here without peepholes).

    The gate that is kept is f and i = 1 - f.
    """
    w, b = block(p, "weight_ih", "fgo"), block(p, "bias_ih", "fgo")
    u = block(p, "weight_hh", "fgo")
    f = sigmoid(affine(w["f"], x, b["f"]) + affine(u["f"], h))
    i = 1.0 - f
    g = np.tanh(affine(w["g"], x, b["g"]) + affine(u["g"], h))
    o = sigmoid(affine(w["o"], x, b["o"]) + affine(u["o"], h))
    c = f * c + i * g
    h = o * np.tanh(c)
    return h, c


def projected_lstm(p: Params, x, h, c) -> State:
    """Sak, Senior and Beaufays 2014, LSTM Architectures for Large Scale Acoustic Modeling.

    Only the recurrent projection r = W_rm m is kept, and the gates have no peepholes.
    """
    w, b = block(p, "weight_ih", "ifgo"), block(p, "bias_ih", "ifgo")
    u, d = block(p, "weight_hh", "ifgo"), block(p, "bias_hh", "ifgo")
    i = sigmoid(affine(w["i"], x, b["i"]) + affine(u["i"], h, d["i"]))
    f = sigmoid(affine(w["f"], x, b["f"]) + affine(u["f"], h, d["f"]))
    g = np.tanh(affine(w["g"], x, b["g"]) + affine(u["g"], h, d["g"]))
    o = sigmoid(affine(w["o"], x, b["o"]) + affine(u["o"], h, d["o"]))
    c = f * c + i * g
    m = o * np.tanh(c)
    h = affine(param(p, "weight_hr"), m)
    return h, c


def layer_norm_lstm(p: Params, x, h, c) -> State:
    """Ba, Kiros and Hinton 2016, Layer Normalization, equations (20), (21) and (22).

    Each of the two products is normalised over all its 4H entries, their two shifts are part of
    the bias, and c is normalised only where h reads it.
    """
    from_x = layer_norm(affine(param(p, "weight_ih"), x), param(p, "gain_ih"), 0.0)
    from_h = layer_norm(affine(param(p, "weight_hh"), h), param(p, "gain_hh"), 0.0)
    i, f, g, o = np.split(from_x + from_h + param(p, "bias_ih"), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(layer_norm(c, param(p, "gain_c"), param(p, "bias_c")))
    return h, c


def gru(p: Params, x, h, reset_after=True, update="keep") -> State:
    """Cho et al. 2014, Learning Phrase Representations using RNN Encoder-Decoder.

    The paper resets before the product and z keeps h: reset_after=False, update="keep".  With
    update="replace" it is Chung et al. 2014, Empirical Evaluation of Gated RNNs, and
    reset_after=True is the cuDNN form.
    """
    w, b = block(p, "weight_ih", "rzn"), block(p, "bias_ih", "rzn")
    u, d = block(p, "weight_hh", "rzn"), block(p, "bias_hh", "rzn")
    r = sigmoid(affine(w["r"], x, b["r"]) + affine(u["r"], h, d["r"]))
    z = sigmoid(affine(w["z"], x, b["z"]) + affine(u["z"], h, d["z"]))
    if reset_after:
        n = np.tanh(affine(w["n"], x, b["n"]) + r * affine(u["n"], h, d["n"]))
    else:
        n = np.tanh(affine(w["n"], x, b["n"]) + affine(u["n"], r * h, d["n"]))
    h = {"keep": z * h + (1.0 - z) * n, "replace": (1.0 - z) * h + z * n}[update]
    return (h,)


def mgu(p: Params, x, h) -> State:
    """Zhou, Wu, Zhang and Zhou 2016, Minimal Gated Unit for Recurrent Neural Networks."""
    w, b = block(p, "weight_ih", "fn"), block(p, "bias_ih", "fn")
    u = block(p, "weight_hh", "fn")
    f = sigmoid(affine(w["f"], x, b["f"]) + affine(u["f"], h))
    n = np.tanh(affine(w["n"], x, b["n"]) + affine(u["n"], f * h))
    h = (1.0 - f) * h + f * n
    return (h,)


def ligru(p: Params, x, h) -> State:
    """Ravanelli et al. 2018, Light Gated Recurrent Units for Speech Recognition.

    The batch normalisation of W x is left out, and a bias takes the place of its shift.
    """
    w, b = block(p, "weight_ih", "zn"), block(p, "bias_ih", "zn")
    u = block(p, "weight_hh", "zn")
    z = sigmoid(affine(w["z"], x, b["z"]) + affine(u["z"], h))
    n = relu(affine(w["n"], x, b["n"]) + affine(u["n"], h))
    h = z * h + (1.0 - z) * n
    return (h,)


def indrnn(p: Params, x, h, activation="relu") -> State:
    """Li et al. 2018, Independently Recurrent Neural Network (IndRNN)."""
    w, b = param(p, "weight_ih"), param(p, "bias_ih")
    u = param(p, "weight_hh")
    h = ACTIVATION[activation](affine(w, x, b) + u * h)
    return (h,)


def rhn(p: Params, x, s, depth=None, coupled=True) -> State:
    """Zilly et al. 2017, Recurrent Highway Networks, equations (6) to (9).

    By default the depth is the number of layers in weight_hh.
    """
    order = "ht" if coupled else "htc"
    w = block(p, "weight_ih", order)
    for layer in range(len(p["weight_hh"]) if depth is None else depth):
        layer_p = {k: p[k][layer] for k in ("weight_hh", "bias_hh") if p.get(k) is not None}
        r, b = block(layer_p, "weight_hh", order), block(layer_p, "bias_hh", order)
        first = 1.0 if layer == 0 else 0.0
        h = np.tanh(first * affine(w["h"], x) + affine(r["h"], s, b["h"]))
        t = sigmoid(first * affine(w["t"], x) + affine(r["t"], s, b["t"]))
        c = 1.0 - t if coupled else sigmoid(first * affine(w["c"], x) + affine(r["c"], s, b["c"]))
        s = h * t + s * c
    return (s,)


def slstm(p: Params, x, h, c, n, m, forget="sigmoid") -> State:
    """Beck et al. 2024, xLSTM: Extended Long Short-Term Memory, equations (8) to (17).

    One head.  Where n is 0, as at the start, m is the input gate's logarithm, as in the authors'
    code.
    """
    w, b = block(p, "weight_ih", "ifzo"), block(p, "bias_ih", "ifzo")
    r = block(p, "weight_hh", "ifzo")
    log_i = affine(w["i"], x, b["i"]) + affine(r["i"], h)
    log_f = affine(w["f"], x, b["f"]) + affine(r["f"], h)
    log_f = {"sigmoid": log_sigmoid, "exp": identity}[forget](log_f)
    z = np.tanh(affine(w["z"], x, b["z"]) + affine(r["z"], h))
    o = sigmoid(affine(w["o"], x, b["o"]) + affine(r["o"], h))
    m_next = np.where(n == 0.0, log_i, np.maximum(log_f + m, log_i))
    i = np.exp(log_i - m_next)
    f = np.exp(log_f + m - m_next)
    c = f * c + i * z
    n = f * n + i
    h = o * (c / n)
    return h, c, n, m_next


def min_gru(p: Params, x, h) -> State:
    """Feng et al. 2024, Were RNNs All We Needed?, minGRU (the plain form, not in log space)."""
    w, b = block(p, "weight_ih", "zn"), block(p, "bias_ih", "zn")
    z = sigmoid(affine(w["z"], x, b["z"]))
    n = affine(w["n"], x, b["n"])
    h = (1.0 - z) * h + z * n
    return (h,)


def min_lstm(p: Params, x, h) -> State:
    """Feng et al. 2024, Were RNNs All We Needed?, minLSTM (the plain form, not in log space)."""
    w, b = block(p, "weight_ih", "fin"), block(p, "bias_ih", "fin")
    f = sigmoid(affine(w["f"], x, b["f"]))
    i = sigmoid(affine(w["i"], x, b["i"]))
    n = affine(w["n"], x, b["n"])
    f_share = f / (f + i)
    i_share = i / (f + i)
    h = f_share * h + i_share * n
    return (h,)


def sru(p: Params, x, h, c) -> State:
    """Lei et al. 2018, Simple Recurrent Units for Highly Parallelizable Recurrence.

    The highway carries x where the sizes agree, else its projection; the paper's scaling of x is
    left out.  The previous h is not used.
    """
    del h
    order = "nfr" if x.shape[-1] == c.shape[-1] else "nfrp"
    w, b = block(p, "weight_ih", order), block(p, "bias_ih", "fr")
    v = block(p, "weight_c", "fr")
    n = affine(w["n"], x)
    f = sigmoid(affine(w["f"], x, b["f"]) + v["f"] * c)
    r = sigmoid(affine(w["r"], x, b["r"]) + v["r"] * c)
    c = f * c + (1.0 - f) * n
    skip = affine(w["p"], x) if "p" in w else x
    h = r * c + (1.0 - r) * skip
    return h, c


def ugrnn(p: Params, x, h) -> State:
    """Collins, Sohl-Dickstein and Sussillo 2017, Capacity and Trainability in RNNs."""
    w, b = block(p, "weight_ih", "gc"), block(p, "bias_ih", "gc")
    u = block(p, "weight_hh", "gc")
    g = sigmoid(affine(w["g"], x, b["g"]) + affine(u["g"], h))
    c = np.tanh(affine(w["c"], x, b["c"]) + affine(u["c"], h))
    h = g * h + (1.0 - g) * c
    return (h,)


def fast_grnn(p: Params, x, h) -> State:
    """Kusupati et al. 2018, FastGRNN: A Fast, Accurate, Stable and Tiny Gated RNN.

    The two scalars pass through a sigmoid, as in the authors' code.
    """
    w, u = param(p, "weight_ih"), param(p, "weight_hh")
    b = block(p, "bias_ih", "zh")
    zeta = sigmoid(param(p, "zeta"))
    nu = sigmoid(param(p, "nu"))
    z = sigmoid(affine(w, x) + affine(u, h) + b["z"])
    candidate = np.tanh(affine(w, x) + affine(u, h) + b["h"])
    h = (zeta * (1.0 - z) + nu) * candidate + z * h
    return (h,)


def nas(p: Params, x, h, c) -> State:
    """Zoph and Le 2017, Neural Architecture Search with Reinforcement Learning.

    The paper draws the cell; the equations are those of TensorFlow's NASCell.
    """
    w = block(p, "weight_ih", "01234567")
    u, b = block(p, "weight_hh", "01234567"), block(p, "bias_hh", "01234567")
    a0 = sigmoid(affine(w["0"], x) + affine(u["0"], h, b["0"]))
    a1 = relu(affine(w["1"], x) + affine(u["1"], h, b["1"]))
    a2 = sigmoid(affine(w["2"], x) + affine(u["2"], h, b["2"]))
    a3 = relu(affine(w["3"], x) * affine(u["3"], h, b["3"]))
    a4 = np.tanh(affine(w["4"], x) + affine(u["4"], h, b["4"]))
    a5 = sigmoid(affine(w["5"], x) + affine(u["5"], h, b["5"]))
    a6 = np.tanh(affine(w["6"], x) + affine(u["6"], h, b["6"]))
    a7 = sigmoid(affine(w["7"], x) + affine(u["7"], h, b["7"]))
    b0 = np.tanh(a0 * a1)
    b1 = np.tanh(a2 + a3)
    b2 = np.tanh(a4 * a5)
    b3 = sigmoid(a6 + a7)
    b0 = np.tanh(b0 + c)
    c = b0 * b1
    h = np.tanh(c * np.tanh(b2 + b3))
    return h, c


def cfc(p: Params, x, h, timed=False) -> State:
    """Hasani et al. 2022, Closed-form Continuous-time Neural Networks.

    As in the authors' PyTorch code, where the time gate is sigmoid(a dt + b) and weighs the
    second head; with timed=True the last column of x is dt.
    """
    dt = 1.0
    if timed:
        x, dt = x[..., :-1], x[..., -1:]
    w, b = param(p, "weight_ih"), param(p, "bias_ih")
    u = param(p, "weight_hh")
    k = lecun_tanh(affine(w, x, b) + affine(u, h))
    v, d = block(p, "weight_head", "ghab"), block(p, "bias_head", "ghab")
    g = np.tanh(affine(v["g"], k, d["g"]))
    candidate = np.tanh(affine(v["h"], k, d["h"]))
    time_a = affine(v["a"], k, d["a"])
    time_b = affine(v["b"], k, d["b"])
    t = sigmoid(time_a * dt + time_b)
    h = (1.0 - t) * g + t * candidate
    return (h,)


REFERENCE = {
    "Elman": elman,
    "Jordan": jordan,
    "LSTM": lstm,
    "PeepholeLSTM": peephole_lstm,
    "CoupledLSTM": coupled_lstm,
    "ProjectedLSTM": projected_lstm,
    "LayerNormLSTM": layer_norm_lstm,
    "GRU": gru,
    "MGU": mgu,
    "LiGRU": ligru,
    "IndRNN": indrnn,
    "RHN": rhn,
    "SLSTM": slstm,
    "MinGRU": min_gru,
    "MinLSTM": min_lstm,
    "SRU": sru,
    "UGRNN": ugrnn,
    "FastGRNN": fast_grnn,
    "NAS": nas,
    "CfC": cfc,
}
