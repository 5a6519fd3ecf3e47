"""A tag for each item of a sequence."""
