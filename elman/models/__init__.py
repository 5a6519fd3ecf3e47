"""Recurrent sequence models."""

from elman.models.language_model import LanguageModel

__all__ = ["LanguageModel"]
