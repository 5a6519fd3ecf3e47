"""Recurrent sequence models."""

from elman.models.encoder import Encoder
from elman.models.language_model import LanguageModel
from elman.models.loss import Loss
from elman.models.seq2seq import EncoderDecoder

__all__ = ["Encoder", "EncoderDecoder", "LanguageModel", "Loss"]
