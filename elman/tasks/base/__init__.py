"""What all tasks share: options, training, scores, predictions."""
