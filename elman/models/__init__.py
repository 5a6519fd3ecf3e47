"""Recurrent sequence models."""
