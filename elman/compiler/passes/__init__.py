"""What a step goes through, one pass a file."""
