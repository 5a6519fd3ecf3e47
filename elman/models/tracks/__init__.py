"""Models of boxes in video."""
