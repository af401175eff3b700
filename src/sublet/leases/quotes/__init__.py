"""Quotes: what is promised to whom, for how long a quote holds it, and the calendar that no two promises share."""
