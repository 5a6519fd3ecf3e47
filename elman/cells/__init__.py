"""Recurrent cells: one equation a file."""

from elman.cells.cell import Cell
from elman.cells.cfc import CfC
from elman.cells.coupled_lstm import CoupledLSTM
from elman.cells.elman import Elman
from elman.cells.fast_grnn import FastGRNN
from elman.cells.gru import GRU
from elman.cells.ind_rnn import IndRNN
from elman.cells.jordan import Jordan
from elman.cells.layer_norm_lstm import LayerNormLSTM
from elman.cells.li_gru import LiGRU
from elman.cells.lstm import LSTM
from elman.cells.mgu import MGU
from elman.cells.min_gru import MinGRU
from elman.cells.min_lstm import MinLSTM
from elman.cells.nas import NAS
from elman.cells.peephole_lstm import PeepholeLSTM
from elman.cells.projected_lstm import ProjectedLSTM
from elman.cells.rhn import RHN
from elman.cells.slstm import SLSTM
from elman.cells.sru import SRU
from elman.cells.stacked import StackedCell
from elman.cells.ugrnn import UGRNN
from elman.errors import unknown

#: The built-in cells by the name that the command line knows them by.
CELLS: dict[str, type[StackedCell]] = {
    "elman": Elman,
    "jordan": Jordan,
    "lstm": LSTM,
    "peephole-lstm": PeepholeLSTM,
    "coupled-lstm": CoupledLSTM,
    "projected-lstm": ProjectedLSTM,
    "layer-norm-lstm": LayerNormLSTM,
    "gru": GRU,
    "mgu": MGU,
    "li-gru": LiGRU,
    "ind-rnn": IndRNN,
    "rhn": RHN,
    "slstm": SLSTM,
    "min-gru": MinGRU,
    "min-lstm": MinLSTM,
    "sru": SRU,
    "ugrnn": UGRNN,
    "fast-grnn": FastGRNN,
    "nas": NAS,
    "cfc": CfC,
}


def cell_named(name: str) -> type[StackedCell]:
    """The built-in cell of that name; OptionError lists the names and suggests the nearest."""
    if name.lower() not in CELLS:
        raise unknown("cell", name, CELLS)
    return CELLS[name.lower()]


__all__ = [
    "CELLS",
    "GRU",
    "LSTM",
    "MGU",
    "NAS",
    "RHN",
    "SLSTM",
    "SRU",
    "UGRNN",
    "Cell",
    "CfC",
    "CoupledLSTM",
    "Elman",
    "FastGRNN",
    "IndRNN",
    "Jordan",
    "LayerNormLSTM",
    "LiGRU",
    "MinGRU",
    "MinLSTM",
    "PeepholeLSTM",
    "ProjectedLSTM",
    "StackedCell",
    "cell_named",
]
