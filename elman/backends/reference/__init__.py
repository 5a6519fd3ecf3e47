"""What says what is right: the literal loop, and the plan with torch's operations."""
