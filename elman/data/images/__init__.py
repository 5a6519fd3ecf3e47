"""Pictures, with labels or captions."""
