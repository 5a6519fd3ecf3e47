"""Sounds to texts."""
