"""The next pixel of a picture."""
