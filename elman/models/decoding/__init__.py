"""How models that write sequences are read out: the likeliest, drawn, or by beam search."""

from elman.models.decoding.options import Decoding, Hypothesis
from elman.models.decoding.rows import Select, select_rows
from elman.models.decoding.search import Step, decode

__all__ = ["Decoding", "Hypothesis", "Select", "Step", "decode", "select_rows"]
