"""Wire types of the waiting list."""

from __future__ import annotations

from typing import Annotated

from annotated_types import MaxLen

from sublet.leases.wire.contracts import NewQuote
from sublet.values.moments import Moment
from sublet.values.wire import LINES, Price, answer, body


@body
class NewWaitlistEntry:
    """A request to keep until there is capacity for it. `quote` is what `POST /v1/quotes` would be sent. Capacity above
    `max_price_per_accelerator_hour` is not offered. The entry lapses at `expires_at`; by default, after 7 days, and never later
    than the request can be met.

    An offer is a quote that holds the capacity; accept it with `POST /v1/leases`. Nothing is bought by itself unless you send
    `accept_with_ssh_public_keys`: then the first offer becomes a lease at once, and these keys may log in.
    """

    quote: NewQuote
    max_price_per_accelerator_hour: Price | None = None
    expires_at: Moment | None = None
    accept_with_ssh_public_keys: Annotated[list[Annotated[str, MaxLen(16_384), LINES]], MaxLen(32)] | None = None


@answer
class WaitlistEntry:
    """A request on the waiting list. `state` is `waiting`, `offered` (`quote_id` can be accepted), `leased` (`lease_id`),
    `lapsed`, or `left`. `reason` says why it waits or why it is over. If `accepts` is true, the first offer becomes a lease at
    once."""

    id: str
    organization_id: str
    state: str
    accelerators: int
    class_: str
    pool: str | None
    generation: str | None
    start: Moment | None
    end: Moment | None
    duration_s: int | None
    finish_by: Moment | None
    service_s: int | None
    max_price_per_accelerator_hour: str | None
    currency: str | None
    accepts: bool
    created_at: Moment
    expires_at: Moment
    offers: int
    quote_id: str | None
    lease_id: str | None
    reason: str


@answer
class WaitlistPage:
    """A page of entries, newest first."""

    entries: list[WaitlistEntry]
    next: str | None


@answer
class PriceLimits:
    """The lowest and highest price per accelerator-hour that entries are limited to, in one currency."""

    currency: str
    lowest: str
    highest: str


@answer
class UnmetDemand:
    """What waits for one generation or pool (`wanted`) in one class. Organizations are counted, not named."""

    wanted: str
    class_: str
    entries: int
    organizations: int
    accelerators: int
    accelerator_hours: float
    oldest: Moment
    price_limits: list[PriceLimits]


@answer
class UnmetDemandList:
    """The requests on the waiting list, by generation or pool and class, the most accelerators first."""

    unmet: list[UnmetDemand]
