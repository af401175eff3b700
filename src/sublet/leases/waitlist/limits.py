"""Limits on the waiting list."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WaitlistLimits:
    """How many entries an organization and all of them may have, for how long an offer stands, and for how long an entry waits
    at most."""

    entries_max: int = 10
    total_max: int = 1_000
    offer_s: int = 900
    days_max: int = 30
