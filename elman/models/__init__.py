"""Recurrent sequence models."""

from elman.models.encoder import Encoder
from elman.models.from_vector import FromVector
from elman.models.language_model import LanguageModel
from elman.models.latent import SequenceVAE, interpolate
from elman.models.loss import Loss

__all__ = ["Encoder", "FromVector", "LanguageModel", "Loss", "SequenceVAE", "interpolate"]
