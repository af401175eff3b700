"""Yield: what an hour of each pool is worth, the best mix of products on it, and what internal use costs."""
