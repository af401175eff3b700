"""The rule, pure: what may be sold from what is known now, and whom to take first when the owner needs capacity."""
