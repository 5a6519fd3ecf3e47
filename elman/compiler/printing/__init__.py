"""Steps and plans for readers."""
