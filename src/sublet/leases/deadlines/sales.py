"""Quotes and leases with a deadline: what a pool may promise, at what price, and what to say where it can't."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from sublet.leases import events
from sublet.leases import store as sql
from sublet.leases.deadlines import store as deadline_sql
from sublet.leases.model import QUOTE_S, Lease, LeaseState, NoCapacityError, OnFailure, Quote
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes import calendar
from sublet.leases.quotes.holds import ROLLING_S, hold_s
from sublet.leases.quotes.places import Places
from sublet.leases.quotes.request import QuoteRequest
from sublet.leases.volumes import store as volumes_sql
from sublet.leases.volumes.service import chosen
from sublet.store import Store
from sublet.surplus.deadlines.book import Offer
from sublet.surplus.model import Promised
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError
from sublet.values.ids import new_id
from sublet.values.windows import Window


class DeadlineSales:
    """Sells hours of service by a deadline, inside the transaction that sells."""

    def __init__(self, store: Store, ports: LeasePorts, places: Places) -> None:
        self._store = store
        self._ports = ports
        self._places = places

    def hold(
        self, connection: Connection, organization_id: str, request: QuoteRequest, now: datetime, key: str | None
    ) -> Quote:
        """A quote of the first pool that can promise the order. Raises NoCapacityError, which names the earliest deadline that
        can be promised, and InvalidInputError for more accelerators than a pool has."""
        window, service_s = request.deadline_window(now)
        candidates = self._places.pools(connection, request, window)
        largest = max(sql.capacity(connection, pool.id) for pool in candidates)
        if request.accelerators > largest:
            raise InvalidInputError(
                f"the order asks for {request.accelerators} accelerators, and the pool has {largest}; ask for at most {largest}",
                field="accelerators",
            )
        refusals: list[tuple[Row[Any], Offer]] = []
        for pool in candidates:
            self._store.lock(connection, f"pool:{pool.id}")
            wanted = Promised("", request.accelerators, service_s, window.end)
            offer = self._ports.offer(connection, pool.id, request.class_name, wanted, "")
            if not offer.answer.admitted or not self._may_share(connection, pool.id, organization_id, window, now):
                refusals.append((pool, offer))
                continue
            terms = self._ports.classes.named(request.class_name)
            price_nano, currency = self._ports.price(connection, pool.id, terms.name, window, organization_id)
            quote = Quote(
                id=new_id("quo"),
                organization_id=organization_id,
                pool_id=pool.id,
                class_name=terms.name,
                notice_s=terms.notice_s,
                accelerators=request.accelerators,
                window=window,
                price_nano=price_nano,
                currency=currency,
                created_at=now,
                expires_at=now + timedelta(seconds=QUOTE_S),
                credit_ratio=terms.credit_ratio,
                held_until=self._held_until(connection, organization_id, pool.id, request.accelerators, service_s, now),
                on_failure=OnFailure.REPLACE,
                network=request.network,
                volumes=tuple(
                    (item.id, item.name) for item in chosen(connection, organization_id, request.volumes, pool.id)
                ),
                service_s=service_s,
                likely=offer.likely,
            )
            self._ports.authorize(connection, organization_id, quote.total_nano, currency)
            sql.insert_quote(connection, quote, key, request.as_dict())
            if quote.held_until is not None:
                events.record_quote(connection, quote, events.QUOTE_HELD, now)
            return quote
        raise _refusal(refusals, request, service_s)

    def sell(
        self,
        connection: Connection,
        quote: Quote,
        keys: tuple[str, ...],
        now: datetime,
        key: str | None,
        buyer: tuple[str, str],
    ) -> Lease:
        """The lease of a quote: asked once more as if the quote held nothing. It waits until the plan gives it accelerators."""
        assert quote.service_s is not None
        wanted = Promised(quote.id, quote.accelerators, quote.service_s, quote.window.end)
        offer = self._ports.offer(connection, quote.pool_id, quote.class_name, wanted, quote.id)
        held = quote.held_until is not None and quote.held_until > now
        # What was held counts as promised: the time that passed since must not refuse it.
        promised = held or offer.answer.admitted
        if not promised or not self._may_share(connection, quote.pool_id, quote.organization_id, quote.window, now):
            raise NoCapacityError(f"it can no longer be promised: {offer.answer.sentence} Ask for a new quote.")
        self._ports.authorize(connection, quote.organization_id, quote.total_nano, quote.currency)
        lease = Lease(
            id=new_id("lse"),
            organization_id=quote.organization_id,
            pool_id=quote.pool_id,
            quote_id=quote.id,
            class_name=quote.class_name,
            notice_s=quote.notice_s,
            accelerators=quote.accelerators,
            unit_ids=(),
            devices=(),
            window=Window(now, quote.window.end),
            price_nano=quote.price_nano,
            currency=quote.currency,
            state=LeaseState.SCHEDULED,
            ssh_public_keys=keys,
            created_at=now,
            credit_ratio=quote.credit_ratio,
            on_failure=quote.on_failure,
            network=quote.network,
            volumes=quote.volumes,
            service_s=quote.service_s,
            turned_at=now,
        )
        volumes_sql.attach_all(connection, quote.volumes, lease.id)
        self._ports.reserve(connection, lease, *buyer)
        sql.insert_lease(connection, lease, key)
        actor = f"customer {quote.organization_id}"
        sql.record(connection, lease.id, None, LeaseState.REQUESTED, now, actor, f"quote {quote.id} accepted")
        why = f"{quote.service_s / 3600:g} h on {lease.accelerators} accelerators by {format_time(lease.window.end)}"
        sql.record(connection, lease.id, LeaseState.REQUESTED, LeaseState.SCHEDULED, now, "admission", why)
        return lease

    def _may_share(
        self, connection: Connection, pool_id: str, organization_id: str, window: Window, now: datetime
    ) -> bool:
        """Whether nobody else holds the pool, or will, where only one organization at a time may."""
        if self._ports.shareable(connection, pool_id):
            return True
        others = calendar.other_tenants(connection, pool_id, organization_id, window, now)
        return not others and not deadline_sql.other_tenants(connection, pool_id, organization_id)

    def _held_until(
        self,
        connection: Connection,
        organization_id: str,
        pool_id: str,
        accelerators: int,
        service_s: int,
        now: datetime,
    ) -> datetime | None:
        holds = sql.idle_holds(connection, organization_id, pool_id, now - timedelta(seconds=ROLLING_S))
        capacity = sql.capacity(connection, pool_id)
        window = Window.starting(now, service_s)
        seconds = hold_s(self._ports.holds, accelerators, window, capacity, holds, now)
        return now + timedelta(seconds=seconds) if seconds else None


def _refusal(refusals: Sequence[tuple[Row[Any], Offer]], request: QuoteRequest, service_s: int) -> NoCapacityError:
    """Why no pool takes the order, and what each could promise instead: a later deadline, or fewer accelerators."""
    alternatives: list[dict[str, Any]] = []
    for pool, offer in refusals:
        common = {"pool_id": pool.id, "class": request.class_name, "service_s": service_s}
        if offer.earliest is not None:
            end = format_time(offer.earliest)
            alternatives.append({**common, "kind": "later", "accelerators": request.accelerators, "end": end})
        if 0 < offer.answer.most < request.accelerators and request.end is not None:
            end = format_time(request.end)
            alternatives.append({**common, "kind": "fewer", "accelerators": offer.answer.most, "end": end})
    dates = [offer.earliest for _, offer in refusals if offer.earliest is not None]
    earliest = format_time(min(dates)) if dates else None
    first = next((offer.answer.sentence for _, offer in refusals if not offer.answer.admitted), "")
    sentence = first or "another organization holds the pool, and its isolation does not separate two."
    hint = f" The earliest deadline that can be promised is {earliest}." if earliest else ""
    return NoCapacityError(sentence + hint, alternatives=alternatives, earliest=earliest)
