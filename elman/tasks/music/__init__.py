"""The next notes of a piece."""
