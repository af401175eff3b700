"""Requests that wait for capacity, as an operator limits them."""

from __future__ import annotations

from pydantic import Field

from sublet.config.pools import Section


class Waitlist(Section):
    """The waiting list: requests that could not be met, kept until capacity appears."""

    entries_max: int = Field(
        default=10, ge=0, le=100, description="requests of an organization that may wait at a time; 0: no waiting list"
    )
    total_max: int = Field(default=1_000, ge=1, le=1_000, description="requests of all organizations that may wait")
    offer_s: int = Field(
        default=900,
        ge=60,
        le=86_400,
        description="seconds for which an offer can be accepted; its capacity is held within the limits of `[quotes]`",
    )
    days_max: int = Field(default=30, ge=1, le=365, description="days that a request may wait")
