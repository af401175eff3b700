"""Subscriptions to plans, compiled into the rate cards of their customers."""
