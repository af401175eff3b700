"""Budgets: who may spend how much, what is reserved of it, and the alerts at its thresholds."""
