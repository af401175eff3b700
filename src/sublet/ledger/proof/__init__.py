"""Proof: everything derived again from the raw events, and how the books stand."""
