"""Quotes and leases with a deadline: what a pool may promise, at what price, and what to say where it can't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from sublet.leases import events
from sublet.leases import store as sql
from sublet.leases.deadlines import store as deadline_sql
from sublet.leases.model import Lease, NoCapacityError, Quote
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes import calendar
from sublet.leases.quotes.contracts import Buyer, Offered, held_until, make_lease, make_quote
from sublet.leases.quotes.places import Places
from sublet.leases.quotes.request import QuoteRequest
from sublet.store import Store
from sublet.surplus.deadlines.book import Offer
from sublet.surplus.model import Promised
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError
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
        self._check_fits(connection, request, window, service_s, candidates)
        refusals: list[tuple[Row[Any], Offer]] = []
        for pool in candidates:
            self._store.lock(connection, f"pool:{pool.id}")
            wanted = Promised("", request.accelerators, service_s, window.end)
            offer = self._ports.offer(connection, pool.id, request.class_name, wanted, "")
            if not offer.answer.admitted or not self._may_share(connection, pool.id, organization_id, window, now):
                refusals.append((pool, offer))
                continue
            price_nano, currency = self._ports.price(connection, pool.id, request.class_name, window, organization_id)
            offered = Offered(organization_id, pool.id, window, price_nano, currency, likely=offer.likely)
            quote = make_quote(connection, self._ports, request, offered, now)
            quote = replace(quote, held_until=held_until(connection, self._ports, quote, now))
            self._ports.authorize(connection, organization_id, quote.total_nano, currency)
            sql.insert_quote(connection, quote, key, request.as_dict())
            if quote.held_until is not None:
                events.record_quote(connection, quote, events.QUOTE_HELD, now)
            return quote
        raise _refusal(refusals, request, service_s)

    def offered(
        self, connection: Connection, organization_id: str, request: QuoteRequest, now: datetime
    ) -> Quote | None:
        """A quote that holds nothing, of the first pool that can promise the order; None where none can. Raises
        InvalidInputError."""
        window, service_s = request.deadline_window(now)
        candidates = self._places.pools(connection, request, window)
        self._check_fits(connection, request, window, service_s, candidates)
        for pool in candidates:
            wanted = Promised("", request.accelerators, service_s, window.end)
            offer = self._ports.offer(connection, pool.id, request.class_name, wanted, "")
            if offer.answer.admitted and self._may_share(connection, pool.id, organization_id, window, now):
                price_nano, currency = self._ports.price(
                    connection, pool.id, request.class_name, window, organization_id
                )
                found = Offered(organization_id, pool.id, window, price_nano, currency, likely=offer.likely)
                quote = make_quote(connection, self._ports, request, found, now)
                self._ports.authorize(connection, organization_id, quote.total_nano, currency)
                return quote
        return None

    def sell(self, connection: Connection, quote: Quote, buyer: Buyer, now: datetime) -> Lease:
        """The lease of a quote: asked once more as if the quote held nothing. It waits until the plan gives it accelerators."""
        assert quote.service_s is not None
        wanted = Promised(quote.id, quote.accelerators, quote.service_s, quote.window.end)
        offer = self._ports.offer(connection, quote.pool_id, quote.class_name, wanted, quote.id)
        held = quote.held_until is not None and quote.held_until > now
        # What was held counts as promised: the time that passed since must not refuse it.
        promised = held or offer.answer.admitted
        if not promised or not self._may_share(connection, quote.pool_id, quote.organization_id, quote.window, now):
            raise NoCapacityError(
                f"the order can no longer be guaranteed: {offer.answer.sentence} Request a new quote."
            )
        self._ports.authorize(connection, quote.organization_id, quote.total_nano, quote.currency)
        return make_lease(connection, self._ports, quote, (), buyer, now)

    def _check_fits(
        self,
        connection: Connection,
        request: QuoteRequest,
        window: Window,
        service_s: int,
        candidates: Sequence[Row[Any]],
    ) -> None:
        """Raise InvalidInputError, with the earliest deadline that can be promised, if the hours are more than are left."""
        if window.seconds >= service_s:
            return
        wanted = Promised("", request.accelerators, service_s, window.end)
        offers = [self._ports.offer(connection, pool.id, request.class_name, wanted, "") for pool in candidates]
        dates = [offer.earliest for offer in offers if offer.earliest is not None]
        instead = (
            f"the earliest deadline that can be promised is {format_time(min(dates))}"
            if dates
            else "request fewer hours or a later deadline"
        )
        raise InvalidInputError(
            f"{service_s / 3600:g} hours of service don't fit in the {window.seconds / 3600:.2f} hours until "
            f"{format_time(window.end)}; {instead}",
            field="end",
        )

    def _may_share(
        self, connection: Connection, pool_id: str, organization_id: str, window: Window, now: datetime
    ) -> bool:
        """Whether nobody else holds the pool, or will, where only one organization at a time may."""
        if self._ports.shareable(connection, pool_id):
            return True
        others = calendar.other_tenants(connection, pool_id, organization_id, window, now)
        return not others and not deadline_sql.other_tenants(connection, pool_id, organization_id)


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
