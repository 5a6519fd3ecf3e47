"""The next unit of a text."""
