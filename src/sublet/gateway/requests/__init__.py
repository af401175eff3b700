"""One request: who may start, what it is once parsed, its exchange, and its reply."""
