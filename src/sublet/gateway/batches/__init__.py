"""Batches: many requests in a file, answered within a window from capacity that nobody else uses."""
