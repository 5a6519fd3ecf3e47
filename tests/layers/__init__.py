"""Every layer against a literal loop over its cells."""
