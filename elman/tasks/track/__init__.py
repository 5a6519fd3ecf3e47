"""The next boxes of what moves in videos."""
