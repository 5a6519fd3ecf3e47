"""Recurrent sequence models."""

from elman.models.classifier import Classifier, Regressor
from elman.models.crf import CRF
from elman.models.encoder import Encoder
from elman.models.language_model import LanguageModel
from elman.models.loss import Loss
from elman.models.tagger import Tagger

__all__ = [
    "CRF",
    "Classifier",
    "Encoder",
    "LanguageModel",
    "Loss",
    "Regressor",
    "Tagger",
]
