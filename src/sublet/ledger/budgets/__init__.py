"""Budgets: spending limits, reservations against them, and alerts at their thresholds."""
