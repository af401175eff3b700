"""The record: what was promised against what happened, by a shadow that lives through every recorded hour."""
