"""Recurrent sequence models."""

from elman.models.classifier import Classifier, Regressor
from elman.models.crf import CRF
from elman.models.decoding import Decoding, Hypothesis, decode
from elman.models.encoder import Encoder
from elman.models.from_vector import FromVector
from elman.models.language_model import LanguageModel
from elman.models.latent import SequenceVAE, interpolate
from elman.models.loss import Loss
from elman.models.seq2seq import EncoderDecoder
from elman.models.tagger import Tagger
from elman.models.transcriber import Transcriber

__all__ = [
    "CRF",
    "Classifier",
    "Decoding",
    "Encoder",
    "EncoderDecoder",
    "FromVector",
    "Hypothesis",
    "LanguageModel",
    "Loss",
    "Regressor",
    "SequenceVAE",
    "Tagger",
    "Transcriber",
    "decode",
    "interpolate",
]
