"""Every cell against its equation."""
