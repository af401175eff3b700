"""Usage: events as they come in, counted once, the meters they may be of, and corrections that are dismissed."""
