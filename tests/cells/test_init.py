"""The first values of the parameters, and cells that are declared wrongly."""

import math

import pytest
import torch

import elman
from elman import cells
from elman.errors import OptionError

H = 64
GATED = {  # cells that stack square recurrent blocks, and how many
    cells.Elman: 1,
    cells.LSTM: 4,
    cells.PeepholeLSTM: 4,
    cells.CoupledLSTM: 3,
    cells.LayerNormLSTM: 4,
    cells.GRU: 3,
    cells.MGU: 2,
    cells.LiGRU: 2,
    cells.RHN: 4,
    cells.SLSTM: 4,
    cells.UGRNN: 2,
    cells.FastGRNN: 1,
    cells.NAS: 8,
    cells.CfC: 1,
}
FORGETFUL = [  # cells with a gate named f that keeps the state, and its place among the biases
    (cells.LSTM, 1),
    (cells.PeepholeLSTM, 1),
    (cells.CoupledLSTM, 0),
    (cells.ProjectedLSTM, 1),
    (cells.LayerNormLSTM, 1),
    (cells.SLSTM, 1),
    (cells.SRU, 0),
    (cells.MinLSTM, 0),
]


def bias_of(cell, gate):
    """The whole bias of one gate: both vectors where there are two."""
    both = [b for b in (cell.bias_ih, getattr(cell, "bias_hh", None)) if b is not None]
    return sum(b.view(-1, cell.hidden_size)[gate] for b in both)


@pytest.mark.parametrize("cell", GATED, ids=lambda c: c.__name__)
def test_each_gate_starts_with_its_own_orthogonal_matrix(cell):
    blocks = cell(5, 6).weight_hh.detach().reshape(-1, 6, 6)
    assert len(blocks) == GATED[cell]
    for block in blocks:
        torch.testing.assert_close(block @ block.T, torch.eye(6))
    for i, block in enumerate(blocks[1:]):
        assert not torch.allclose(block, blocks[i])


@pytest.mark.parametrize("cell", [cells.ProjectedLSTM, cells.Jordan], ids=lambda c: c.__name__)
def test_a_recurrent_matrix_that_is_not_square_has_orthonormal_columns(cell):
    built = cell(5, 6, 3)
    blocks = getattr(built, built.recurrent_weights[0]).detach().reshape(-1, 6, 3)
    for block in blocks:
        torch.testing.assert_close(block.T @ block, torch.eye(3))


@pytest.mark.parametrize("cell,gate", FORGETFUL, ids=str)
def test_the_forget_bias_is_one_and_the_others_zero(cell, gate):
    built = cell(5, 6)
    for position in range(len(built.bias_ih) // 6):
        expected = torch.full((6,), float(position == gate))
        torch.testing.assert_close(bias_of(built, position), expected)


@pytest.mark.parametrize("init", ["orthogonal", "torch"])
@pytest.mark.parametrize("cell,gate", FORGETFUL, ids=str)
def test_a_given_forget_bias_is_the_sum_of_the_biases(cell, gate, init):
    built = cell(5, 6, forget_bias=2.5, init=init)
    torch.testing.assert_close(bias_of(built, gate), torch.full((6,), 2.5))


@pytest.mark.parametrize("cell", [c for c, _ in FORGETFUL], ids=lambda c: c.__name__)
def test_a_forget_bias_without_biases_is_an_error(cell):
    with pytest.raises(OptionError, match="forget_bias needs biases"):
        cell(5, 6, bias=False, forget_bias=1.0)


@pytest.mark.parametrize("name", sorted(cells.CELLS))
def test_init_torch_draws_weights_and_biases_within_one_over_root_h(name):
    bound = 1 / math.sqrt(H)
    cell = cells.CELLS[name](5, H, init="torch")
    for parameter_name, parameter in cell.named_parameters():
        if parameter_name.startswith(("weight", "bias")):
            assert parameter.abs().max() <= bound
            assert parameter.min() < -0.8 * bound
            assert parameter.max() > 0.8 * bound
            assert abs(parameter.mean()) < 0.3 * bound


def test_init_torch_draws_what_torch_draws():
    torch.manual_seed(3)
    theirs = torch.nn.LSTM(5, 6)
    torch.manual_seed(3)
    ours = cells.LSTM(5, 6, init="torch")
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, getattr(theirs, f"{name}_l0"))


def test_init_identity_makes_an_irnn():
    cell = cells.Elman(50, H, activation="relu", init="identity")
    assert torch.equal(cell.weight_hh, torch.eye(H))
    assert abs(cell.weight_ih.std() - 0.001) < 1e-4
    assert not cell.bias_ih.any()
    assert not cell.bias_hh.any()


def test_init_identity_makes_the_diagonal_of_an_ind_rnn_one():
    assert torch.equal(cells.IndRNN(5, 6, init="identity").weight_hh, torch.ones(6))


@pytest.mark.parametrize("cell", [cells.LSTM, cells.GRU, cells.SRU, cells.MinGRU, cells.RHN])
def test_init_identity_of_a_cell_without_one_square_matrix_is_an_error(cell):
    with pytest.raises(OptionError, match="needs one square recurrent matrix"):
        cell(5, 6, init="identity")


CHRONO = [
    (cells.LSTM, {}, {1: 1, 0: -1}),
    (cells.SLSTM, {}, {1: 1, 0: -1}),
    (cells.CoupledLSTM, {}, {0: 1}),
    (cells.GRU, {"update": "keep"}, {1: 1}),
    (cells.GRU, {"update": "replace"}, {1: -1}),
    (cells.MGU, {}, {0: -1}),
    (cells.LiGRU, {}, {0: 1}),
    (cells.UGRNN, {}, {0: 1}),
    (cells.FastGRNN, {}, {0: 1}),
    (cells.MinGRU, {}, {0: -1}),
    (cells.MinLSTM, {}, {0: 1, 1: -1}),
    (cells.SRU, {}, {0: 1}),
]


@pytest.mark.parametrize("cell,options,signs", CHRONO, ids=str)
def test_init_chrono_draws_the_log_of_a_uniform_span(cell, options, signs):
    cell = cell(5, 400, init="chrono", t_max=101, **options)
    drawn = None
    for gate, sign in signs.items():
        spans = (sign * bias_of(cell, gate)).exp()
        assert spans.min() >= 1 - 1e-9
        assert spans.max() <= 100 + 1e-9
        assert abs(spans.mean() - 50.5) < 6
        assert abs(spans.std() - 99 / math.sqrt(12)) < 4
        assert drawn is None or torch.equal(spans, drawn)
        drawn = spans
    for gate in set(range(len(cell.bias_ih) // 400)) - set(signs):
        assert not bias_of(cell, gate).any()


@pytest.mark.parametrize("t_max", [None, 2, 0])
def test_init_chrono_without_a_span_is_an_error(t_max):
    with pytest.raises(OptionError, match="needs t_max"):
        cells.LSTM(5, 6, init="chrono", t_max=t_max)


@pytest.mark.parametrize("cell,options", [(cells.Elman, {}), (cells.LSTM, {"bias": False})])
def test_init_chrono_of_a_cell_without_biased_gates_is_an_error(cell, options):
    with pytest.raises(OptionError, match="biased gates"):
        cell(5, 6, init="chrono", t_max=10, **options)


def test_an_unknown_init_suggests_the_nearest():
    with pytest.raises(OptionError, match=r"did you mean 'orthogonal'\?"):
        cells.LSTM(5, 6, init="ortogonal")


@pytest.mark.parametrize("name", sorted(cells.CELLS))
def test_equal_seeds_draw_equal_parameters_and_others_do_not(name):
    def draw(seed):
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in cells.CELLS[name](5, 6).parameters()])

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_parameters_have_the_dtype_and_device_that_were_asked_for():
    assert cells.LSTM(5, 6, dtype=torch.float32).weight_ih.dtype is torch.float32
    assert cells.LSTM(5, 6, device="meta").weight_hh.is_meta


@pytest.mark.parametrize("wrong", [{"update": "kep"}, {"input_size": 0}, {"hidden_size": 2.5}])
def test_wrong_options_of_a_gru_are_errors(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        cells.GRU(**({"input_size": 5, "hidden_size": 6} | wrong))


def test_a_wrong_forget_function_suggests_the_nearest():
    with pytest.raises(OptionError, match=r"did you mean 'sigmoid'\?"):
        cells.SLSTM(5, 6, forget="sigmoyd")


def test_a_timed_cfc_needs_an_input_beside_the_time():
    with pytest.raises(OptionError, match="timed=True"):
        cells.CfC(1, 6, timed=True)


def test_a_cell_is_found_by_name_and_a_wrong_name_suggests_the_nearest():
    assert cells.cell_named("peephole-lstm") is cells.PeepholeLSTM
    with pytest.raises(OptionError, match=r"unknown cell 'lsmt': did you mean 'lstm'\?"):
        cells.cell_named("lsmt")


def test_a_cell_without_state_sizes_is_told_to_declare_them():
    class Stateless(elman.Cell):
        def step(self, x):
            return x

    with pytest.raises(OptionError, match=r"Stateless: .*super\(\).__init__\(input_size, h=hidd"):
        Stateless(3)


def test_a_step_whose_arguments_are_not_the_declared_parts_is_refused():
    class Swapped(elman.Cell):
        def step(self, x, c, h):
            return h, c

    with pytest.raises(OptionError, match=r"Swapped.step must take \(x, h, c\).* \(x, c, h\)"):
        Swapped(3, h=2, c=2)


def test_a_cell_without_a_step_is_told_to_define_one():
    with pytest.raises(OptionError, match=r"Cell has no step: define step\(self, x, h\)"):
        elman.Cell(3, h=2).step(torch.zeros(3), torch.zeros(2))
