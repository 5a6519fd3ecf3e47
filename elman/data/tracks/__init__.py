"""Boxes in video."""
