"""Recurrent sequence models."""

from elman.models.decoding import Decoding, Hypothesis, decode
from elman.models.encoder import Encoder
from elman.models.language_model import LanguageModel
from elman.models.loss import Loss

__all__ = ["Decoding", "Encoder", "Hypothesis", "LanguageModel", "Loss", "decode"]
