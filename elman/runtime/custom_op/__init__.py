"""A run over time as an operator that graphs of torch hold."""
