"""Recurrent sequence models."""

from elman.models.autoregressive import AutoregressiveForecaster
from elman.models.captioner import Captioner
from elman.models.classifier import Classifier, Regressor
from elman.models.crf import CRF
from elman.models.decoding import Decoding, Hypothesis, decode
from elman.models.encoder import Encoder
from elman.models.forecaster import Forecast, Forecaster
from elman.models.from_vector import FromVector
from elman.models.language_model import LanguageModel
from elman.models.latent import SequenceVAE, interpolate
from elman.models.loss import Loss
from elman.models.outputs import output_named
from elman.models.picture_encoder import PictureEncoder
from elman.models.seq2seq import EncoderDecoder
from elman.models.tagger import Tagger
from elman.models.tracker import Tracker
from elman.models.transcriber import Transcriber

__all__ = [
    "CRF",
    "AutoregressiveForecaster",
    "Captioner",
    "Classifier",
    "Decoding",
    "Encoder",
    "EncoderDecoder",
    "Forecast",
    "Forecaster",
    "FromVector",
    "Hypothesis",
    "LanguageModel",
    "Loss",
    "PictureEncoder",
    "Regressor",
    "SequenceVAE",
    "Tagger",
    "Tracker",
    "Transcriber",
    "decode",
    "interpolate",
    "output_named",
]
