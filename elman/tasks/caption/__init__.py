"""Pictures to texts."""
