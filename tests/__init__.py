"""The tests of elman."""
