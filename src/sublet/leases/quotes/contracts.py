"""The only place that creates quotes and leases, both by window and by deadline. A lease has the terms of its quote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sublet.leases import store as sql
from sublet.leases import unit_store as unit_sql
from sublet.leases.images.service import chosen as chosen_image
from sublet.leases.images.service import take as take_image
from sublet.leases.model import QUOTE_S, GiveBack, Lease, LeaseState, OnFailure, OnReclaim, Quote
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes import calendar
from sublet.leases.quotes.holds import ROLLING_S, hold_s
from sublet.leases.quotes.places import accelerator_count
from sublet.leases.quotes.request import QuoteRequest
from sublet.leases.volumes import store as volumes_sql
from sublet.leases.volumes.service import chosen
from sublet.values.clock import format_time
from sublet.values.ids import new_id
from sublet.values.windows import Window


@dataclass(frozen=True, slots=True)
class Offered:
    """A pool's offer for a request: `price_nano` per accelerator-hour over `window`, from the block `block_id` if it is set.
    `likely` is the share of forecast paths on which an order meets its deadline."""

    organization_id: str
    pool_id: str
    window: Window
    price_nano: int
    currency: str
    block_id: str | None = None
    likely: float | None = None


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who accepts a quote: the SSH keys that may log in, the idempotency key, and the API key and project whose budgets are
    charged besides the organization's."""

    ssh_public_keys: tuple[str, ...]
    idempotency_key: str | None = None
    key_id: str = ""
    project: str = ""


def make_quote(
    connection: Connection, ports: LeasePorts, request: QuoteRequest, offered: Offered, now: datetime
) -> Quote:
    """The quote for `request`. It holds nothing yet. Raises the errors of choosing its volumes."""
    terms = ports.classes.named(request.class_name)
    by_window = request.service_s is None
    return Quote(
        id=new_id("quo"),
        organization_id=offered.organization_id,
        pool_id=offered.pool_id,
        class_name=terms.name,
        notice_s=terms.lengthened(request.notice_s).notice_s,
        notice_rule=terms.notice_rule(request.notice_s),
        accelerators=request.accelerators,
        window=offered.window,
        price_nano=offered.price_nano,
        currency=offered.currency,
        created_at=now,
        expires_at=now + timedelta(seconds=QUOTE_S),
        credit_ratio=terms.credit_ratio,
        free_s=terms.free_s if by_window else 0,
        # A lease with a deadline never shrinks: with fewer accelerators, it would be late.
        on_failure=request.on_failure if by_window else OnFailure.REPLACE,
        block_id=offered.block_id,
        network=request.network,
        volumes=tuple(
            (item.id, item.name)
            for item in chosen(connection, offered.organization_id, request.volumes, offered.pool_id, request.project)
        ),
        image=chosen_image(connection, ports.images, offered.organization_id, request.image, offered.pool_id),
        service_s=request.service_s,
        likely=offered.likely,
        give_back=GiveBack.of(terms),
        # A lease with a deadline is paused and resumed instead.
        on_reclaim=request.on_reclaim if by_window else OnReclaim.END,
    )


def held_until(connection: Connection, ports: LeasePorts, quote: Quote, now: datetime) -> datetime | None:
    """Until when a new quote holds capacity, or None if it holds none."""
    since = now - timedelta(seconds=ROLLING_S)
    holds = sql.idle_holds(connection, quote.organization_id, quote.pool_id, since)
    capacity = sql.capacity(connection, quote.pool_id)
    # A lease with a deadline holds as much as a window of its service time would.
    window = quote.window if quote.service_s is None else Window.starting(now, quote.service_s)
    seconds = hold_s(ports.holds, quote.accelerators, window, capacity, holds, now)
    return now + timedelta(seconds=seconds) if seconds else None


def make_lease(
    connection: Connection, ports: LeasePorts, quote: Quote, units: Sequence[str], buyer: Buyer, now: datetime
) -> Lease:
    """The lease of `quote` on `units` (none yet for a lease with a deadline), stored with its volumes and reserved against the
    budgets. The caller fences the units. Raises the errors of `ports.reserve`."""
    chosen_units = sorted(units)
    devices = calendar.devices_of(connection, chosen_units)
    by_window = quote.service_s is None
    lease = Lease(
        id=new_id("lse"),
        organization_id=quote.organization_id,
        pool_id=quote.pool_id,
        quote_id=quote.id,
        class_name=quote.class_name,
        notice_s=quote.notice_s,
        accelerators=quote.accelerators,
        unit_ids=tuple(chosen_units),
        devices=tuple(devices[unit] for unit in chosen_units),
        window=quote.window if by_window else Window(now, quote.window.end),
        price_nano=quote.price_nano,
        currency=quote.currency,
        state=LeaseState.SCHEDULED,
        ssh_public_keys=buyer.ssh_public_keys,
        created_at=now,
        credit_ratio=quote.credit_ratio,
        free_s=quote.free_s,
        on_failure=quote.on_failure,
        block_id=quote.block_id,
        network=quote.network,
        volumes=quote.volumes,
        image=quote.image,
        service_s=quote.service_s,
        turned_at=None if by_window else now,
        give_back=quote.give_back,
        on_reclaim=quote.on_reclaim,
    )
    take_image(connection, quote.image, now)
    volumes_sql.attach_all(connection, quote.volumes, lease.id, now)
    ports.reserve(connection, lease, buyer.key_id, buyer.project)
    sql.insert_lease(connection, lease, buyer.idempotency_key)
    unit_sql.fence_units(connection, lease.pool_id, lease.unit_ids, lease.id, now)
    requested = (None, LeaseState.REQUESTED, f"customer {quote.organization_id}", f"quote {quote.id} accepted")
    scheduled = (LeaseState.REQUESTED, LeaseState.SCHEDULED, "admission", _promised(lease))
    sql.record_first(connection, lease.id, [requested, scheduled], now)
    return lease


def _promised(lease: Lease) -> str:
    end = format_time(lease.window.end)
    if lease.service_s is None:
        return f"{accelerator_count(lease.accelerators)} reserved until {end}"
    return f"{lease.service_s / 3600:g} h on {accelerator_count(lease.accelerators)} by {end}"
