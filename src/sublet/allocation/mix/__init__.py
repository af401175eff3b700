"""The best use of idle capacity: a linear program, whole replicas, and a fallback without a solver. Pure."""
