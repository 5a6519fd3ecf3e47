"""Recurrent sequence models."""

from elman.models.encoder import Encoder
from elman.models.language_model import LanguageModel
from elman.models.loss import Loss

__all__ = ["Encoder", "LanguageModel", "Loss"]
