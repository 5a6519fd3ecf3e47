"""Data made by the program."""
