"""What a step can read beside its tensors: a plan holds as long as it stays the same."""
