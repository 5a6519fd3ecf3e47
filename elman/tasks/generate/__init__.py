"""Texts and series from a latent variable."""
