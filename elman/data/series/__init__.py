"""Series of numbers, with labels or on calendars."""
