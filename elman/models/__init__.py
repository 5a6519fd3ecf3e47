"""Recurrent sequence models."""

from elman.models.audio.transcriber import Transcriber
from elman.models.common.autoregressive import AutoregressiveForecaster
from elman.models.common.classifier import Classifier, Regressor
from elman.models.common.encoder import Encoder
from elman.models.common.from_vector import FromVector
from elman.models.common.latent import SequenceVAE, interpolate
from elman.models.common.loss import Loss
from elman.models.common.seq2seq import EncoderDecoder
from elman.models.decoding import Decoding, Hypothesis, decode
from elman.models.images.captioner import Captioner
from elman.models.images.picture_encoder import PictureEncoder
from elman.models.series.distribution_head import output_named
from elman.models.series.forecaster import Forecast, Forecaster
from elman.models.text.crf import CRF
from elman.models.text.language_model import LanguageModel
from elman.models.text.tagger import Tagger
from elman.models.tracks.tracker import Tracker

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
