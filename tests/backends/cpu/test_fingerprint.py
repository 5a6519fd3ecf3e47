"""No change of a weight goes unseen: neither by the fingerprint nor by a layer."""

import numpy as np
import pytest
import torch
from torch import nn

import elman
from elman.backends.cpu.memory.fingerprint import fingerprint

CHANGES = 100_000


def _signs(x, r):
    x[r.random(x.shape) < r.random()] *= -1.0


def _negated(x, r):
    np.negative(x, out=x)


def _exchanged(x, r):
    """Two elements; every other time as far apart as accumulators take words in turn."""
    flat = x.reshape(-1)
    i = r.integers(flat.size)
    j = r.integers(flat.size) if r.random() < 0.5 else (i + 64 * r.integers(1, 9)) % flat.size
    flat[[i, j]] = flat[[j, i]]


def _rows(x, r):
    i, j = r.integers(len(x), size=2)
    x[[i, j]] = x[[j, i]]


def _columns(x, r):
    _rows(x.T, r)


def _ulp(x, r):
    bits = x.reshape(-1).view(np.int32)
    bits[r.integers(bits.size)] += r.choice([-1, 1])


def _two_bits(x, r):
    bits = x.reshape(-1).view(np.uint32)
    i, j = r.integers(bits.size, size=2)
    bits[i] ^= np.uint32(1) << np.uint32(r.integers(32))
    bits[j] ^= np.uint32(1) << np.uint32(r.integers(32))


def _transposed(x, r):
    n = min(x.shape)
    x[:n, :n] = x[:n, :n].T.copy()


def _zeros(x, r):
    x.reshape(-1)[r.integers(x.size)] = 0.0
    x[x == 0.0] *= -1.0


def _blocks(x, r):
    flat, size = x.reshape(-1), int(r.choice([1, 2, 8, 16, 64, 128]))
    whole = flat[: flat.size // size * size].reshape(-1, size)
    whole[:] = whole[r.permutation(len(whole))]


def _rolled(x, r):
    x[:] = np.roll(x, r.integers(x.size))


def _scaled(x, r):
    x[r.integers(len(x))] *= 2.0


KINDS = [_signs, _negated, _exchanged, _rows, _columns, _ulp, _two_bits, _transposed, _zeros]
KINDS += [_blocks, _rolled, _scaled]


def _matrix(r):
    """Of any small shape, of random numbers or of a few that stand again and again."""
    shape = tuple(r.integers(4, 27, size=2))
    x = r.standard_normal(shape) if r.random() < 0.7 else r.integers(-1, 2, shape) / 2
    return x.astype(np.float32)


def test_no_change_keeps_the_fingerprint() -> None:
    r, done = np.random.default_rng(0), 0
    while done < CHANGES:
        base = _matrix(r)
        contents, prints = {base.tobytes()}, {fingerprint(torch.from_numpy(base))}
        for kind in r.choice(KINDS, size=400):
            x = base.copy()
            kind(x, r)
            contents.add(x.tobytes())
            prints.add(fingerprint(torch.from_numpy(x)))
        assert len(prints) == len(contents), base.shape
        done += len(contents) - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_bit_of_every_number_counts(dtype) -> None:
    for count in (1, 2, 63, 64, 65, 129):
        x = torch.zeros(count, dtype=dtype)
        bytes = x.view(torch.uint8)
        found = {fingerprint(x)}
        for at in range(len(bytes)):
            for bit in range(8):
                bytes[at] ^= 1 << bit
                found.add(fingerprint(x))
                bytes[at] ^= 1 << bit
        assert len(found) == 1 + 8 * len(bytes)


def test_it_does_not_depend_on_where_the_tensor_lies() -> None:
    room = torch.randn(1000)
    for size in (1, 63, 64, 200):
        for at in (1, 3, 17):
            assert fingerprint(room[at : at + size]) == fingerprint(room[at : at + size].clone())


def test_zeros_of_other_lengths_differ() -> None:
    assert len({fingerprint(torch.zeros(n))[-1] for n in range(200)}) == 200


# ------------------------------------------------------------------ seen by a layer


def _moved(layer: nn.Module) -> None:
    """Values of the one weight are now those of the other."""
    a, b = layer.weight_ih_l0, layer.weight_hh_l0
    a.data, b.data = b.data.clone(), a.data.clone()


def _some_signs(layer: nn.Module) -> None:
    layer.weight_hh_l0[::2, 1::3].neg_()


def _swapped_rows(layer: nn.Module) -> None:
    layer.weight_hh_l0[[3, 11]] = layer.weight_hh_l0[[11, 3]]


def _swapped_columns(layer: nn.Module) -> None:
    layer.weight_hh_l0[:, [3, 7]] = layer.weight_hh_l0[:, [7, 3]]


def _transposed_gates(layer: nn.Module) -> None:
    for gate in layer.weight_hh_l0.chunk(4):
        gate.copy_(gate.t().clone())


LAYER_CHANGES = {
    "negated": lambda layer: layer.weight_hh_l0.neg_(),
    "both negated": lambda layer: [w.neg_() for w in (layer.weight_ih_l0, layer.weight_hh_l0)],
    "some signs": _some_signs,
    "rows": _swapped_rows,
    "columns": _swapped_columns,
    "transposed": _transposed_gates,
    "blocks": lambda layer: layer.weight_hh_l0.copy_(layer.weight_hh_l0.roll(8, 0)),
    "moved": _moved,
    "data": lambda layer: layer.weight_hh_l0.data.neg_(),
    "copy": lambda layer: layer.weight_hh_l0.copy_(-layer.weight_hh_l0),
}


@pytest.mark.parametrize("change", LAYER_CHANGES)
def test_a_layer_sees_its_weights_change(change) -> None:
    torch.manual_seed(0)
    layer, twin, x = elman.LSTM(8, 8), nn.LSTM(8, 8), torch.randn(5, 3, 8)
    with torch.no_grad():
        before = layer(x)[0]
        LAYER_CHANGES[change](layer)
        after = layer(x)[0]
        twin.load_state_dict(layer.state_dict())
        torch.testing.assert_close(after, twin(x)[0], rtol=1e-5, atol=1e-6)
    assert (after - before).abs().max() > 1e-3
