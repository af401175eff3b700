"""Events of the waiting list in the outbox."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from sublet.leases.model import Quote
from sublet.leases.waitlist.model import Entry
from sublet.store.events import declare
from sublet.values.money import text_from_nano


@dataclass(frozen=True, slots=True)
class WaitlistOffer:
    """A request on the waiting list, and the quote or lease that was made for it. `lease` is empty unless the request asked for
    an automatic purchase. `total` is a decimal text in `currency`."""

    entry: str
    quote: str
    lease: str
    pool: str
    class_of_service: str
    accelerators: int
    start: datetime
    end: datetime
    total: str
    currency: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class WaitlistOver:
    """A request that left the waiting list, and why."""

    entry: str
    class_of_service: str
    accelerators: int
    reason: str


OFFERED = declare(
    "waitlist.offered",
    WaitlistOffer,
    "Capacity for a request on the waiting list is held by a quote that can be accepted.",
    subject="entry",
)
BOUGHT = declare(
    "waitlist.bought", WaitlistOffer, "A request on the waiting list became a lease, as it asked.", subject="entry"
)
LAPSED = declare("waitlist.lapsed", WaitlistOver, "A request left the waiting list unmet.", subject="entry")


def record_offer(connection: Connection, entry: Entry, quote: Quote, now: datetime) -> None:
    """Record that `entry` has an offer, or became a lease."""
    kind = BOUGHT if entry.lease_id is not None else OFFERED
    payload = WaitlistOffer(
        entry.id,
        quote.id,
        entry.lease_id or "",
        quote.pool_id,
        quote.class_name,
        quote.accelerators,
        quote.window.start,
        quote.window.end,
        text_from_nano(quote.total_nano),
        quote.currency,
        quote.expires_at,
    )
    kind.record(connection, payload, now, organization_id=entry.organization_id, key=(entry.id, quote.id))


def record_lapsed(connection: Connection, entry: Entry, now: datetime) -> None:
    """Record that `entry` left the list without a lease, and not because its organization took it off."""
    payload = WaitlistOver(entry.id, entry.request.class_name, entry.request.accelerators, entry.reason)
    LAPSED.record(connection, payload, now, organization_id=entry.organization_id, key=(entry.id,))
