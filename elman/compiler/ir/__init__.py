"""The language of one step: what it is, what it means, how it is checked and kept."""
