"""Recurrent sequence models."""

from elman.models.decoding import Decoding, Hypothesis, decode
from elman.models.encoder import Encoder
from elman.models.from_vector import FromVector
from elman.models.language_model import LanguageModel
from elman.models.latent import SequenceVAE, interpolate
from elman.models.loss import Loss
from elman.models.seq2seq import EncoderDecoder

__all__ = [
    "Decoding",
    "Encoder",
    "EncoderDecoder",
    "FromVector",
    "Hypothesis",
    "LanguageModel",
    "Loss",
    "SequenceVAE",
    "decode",
    "interpolate",
]
