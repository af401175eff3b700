"""Reclaims: choosing what to reclaim when the owner needs capacity, carrying it out, and withdrawing it afterward."""
