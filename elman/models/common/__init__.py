"""What sequence models share: encoders, decoders, attention bridges, losses, scores."""
