"""Quotes: what is promised to whom, how long capacity is held for it, and the calendar that prevents overlaps."""
