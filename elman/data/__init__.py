"""Files to tensors: text, its units, and the streams that training reads."""
