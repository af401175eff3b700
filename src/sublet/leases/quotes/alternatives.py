"""Finds alternatives for a request that can't be met: priced offers that can be accepted as they are.

An offer holds nothing. When it is accepted, it is admitted like any quote without a hold. An organization keeps only the offers
of its latest refused request, which bounds their number. The search only reads, so it delays no sale; the offers are stored
afterward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from sublet.leases import store as sql
from sublet.leases.deadlines.sales import DeadlineSales
from sublet.leases.model import FORECAST_WINDOW_S_MAX, Quote
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes.contracts import Offered, make_quote
from sublet.leases.quotes.places import Places
from sublet.leases.quotes.request import SERVICE_S_MAX, QuoteRequest
from sublet.leases.quotes.spans import windows_of
from sublet.store import Store
from sublet.values.clock import format_time, parse_time
from sublet.values.errors import SubletError
from sublet.values.money import text_from_nano

OFFERS_MAX = 8
TRIES_MAX = 24
LATER = timedelta(days=7)
"""So far ahead another start is looked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """An alternative to `request`: how it differs, and its quote, which is not stored yet."""

    kind: str
    request: QuoteRequest
    quote: Quote


class Alternatives:
    """Finds alternatives to a refused request, and stores them as offers."""

    def __init__(self, store: Store, ports: LeasePorts) -> None:
        self._ports = ports.remembering(ports)
        self._places = Places(self._ports)
        self._deadlines = DeadlineSales(store, self._ports, self._places)

    def find(
        self,
        connection: Connection,
        organization_id: str,
        request: QuoteRequest,
        known: Sequence[dict[str, Any]],
        now: datetime,
    ) -> list[Found]:
        """The available alternatives, beginning with the `known` ones that the refusal named. Changes nothing."""
        offers: list[Found] = []
        seen: set[tuple[Any, ...]] = set()
        for tries, (kind, wanted) in enumerate(self._tries(connection, request, known, now)):
            if len(offers) >= OFFERS_MAX or tries >= TRIES_MAX:
                break
            try:
                quote = self.offered(connection, organization_id, wanted, now)
            except SubletError:
                # For example, a price in another currency can't be offered to this customer.
                continue
            if quote is None:
                continue
            shown = (quote.pool_id, quote.class_name, quote.accelerators, quote.window, quote.service_s)
            if shown not in seen:
                seen.add(shown)
                offers.append(Found(kind, wanted, quote))
        return offers

    def offered(
        self, connection: Connection, organization_id: str, request: QuoteRequest, now: datetime
    ) -> Quote | None:
        if request.service_s is not None:
            return self._deadlines.offered(connection, organization_id, request, now)
        for window in windows_of(connection, self._ports, request, self._pool_ids(connection, request), now):
            for pool in self._places.pools(connection, request, window):
                if request.accelerators % self._ports.engine_of(connection, pool.id).step:
                    continue
                place = self._places.place(connection, pool.id, request, window, organization_id, now)
                if place is not None:
                    offered = Offered(
                        organization_id, pool.id, window, place.price_nano, place.currency, block_id=place.block_id
                    )
                    quote = make_quote(connection, self._ports, request, offered, now)
                    self._ports.authorize(connection, organization_id, quote.total_nano, quote.currency)
                    return quote
        return None

    def _pool_ids(self, connection: Connection, request: QuoteRequest) -> list[str]:
        if request.pool is not None:
            named = sql.pool_named(connection, request.pool)
            return [named.id] if named is not None else []
        return [pool.id for pool in sql.pools_of(connection, request.generation)]

    def _tries(
        self, connection: Connection, request: QuoteRequest, known: Sequence[dict[str, Any]], now: datetime
    ) -> Iterator[tuple[str, QuoteRequest]]:
        """The alternatives to try, smallest change first."""
        if request.notice_s is not None:
            yield "notice", replace(request, notice_s=None)
        for item in known:
            yield str(item["kind"]), _of_known(request, item)
        if request.service_s is not None:
            return
        span = request.span(now)
        length = round(span.seconds)
        fixed = replace(request, start=span.start, end=None, duration_s=length, finish_by=None)
        if length <= FORECAST_WINDOW_S_MAX:
            start = span.start + timedelta(seconds=60)
            yield "start", replace(fixed, start=start, finish_by=start + LATER + timedelta(seconds=length))
        here = set(self._pool_ids(connection, request))
        for pool in sql.pools_of(connection):
            if pool.id not in here:
                yield "pool", replace(fixed, pool=pool.id, generation=None)
        strictest = self._ports.classes.strictest
        if strictest.notice_s is None and strictest.sell and strictest.name != request.class_name:
            yield "block", replace(fixed, class_name=strictest.name, notice_s=None)
        paused = next((item for item in self._ports.classes.on_sale if not item.by_window), None)
        if paused is not None and length <= SERVICE_S_MAX and not request.volumes:
            by = span.start + timedelta(seconds=3 * length)
            hours = replace(
                fixed, class_name=paused.name, notice_s=None, start=None, duration_s=None, end=by, service_s=length
            )
            yield "deadline", hours


def write_offers(
    connection: Connection, organization_id: str, found: Sequence[Found], now: datetime
) -> list[dict[str, Any]]:
    """Store the alternatives with their quotes. They replace the offers of an earlier refusal."""
    sql.close_offers(connection, organization_id, now)
    for item in found:
        sql.insert_quote(connection, item.quote, None, item.request.as_dict(), is_offer=True)
    return [_shown(item.kind, item.quote) for item in found]


def _of_known(request: QuoteRequest, item: dict[str, Any]) -> QuoteRequest:
    """An alternative from a refusal, as a request."""
    common = replace(
        request,
        accelerators=int(item["accelerators"]),
        notice_s=request.notice_s if item["class"] == request.class_name else None,
        class_name=str(item["class"]),
        pool=str(item["pool_id"]),
        generation=None,
        duration_s=None,
        finish_by=None,
        end=parse_time(str(item["end"])),
    )
    return common if request.service_s is not None else replace(common, start=parse_time(str(item["start"])))


def _shown(kind: str, quote: Quote) -> dict[str, Any]:
    more = {} if quote.service_s is None else {"service_s": quote.service_s}
    return {
        "kind": kind,
        "pool_id": quote.pool_id,
        "class": quote.class_name,
        "accelerators": quote.accelerators,
        "start": format_time(quote.window.start),
        "end": format_time(quote.window.end),
        **more,
        "price_per_accelerator_hour": text_from_nano(quote.price_nano),
        "total": text_from_nano(quote.total_nano),
        "currency": quote.currency,
        "block_id": quote.block_id,
        "quote_id": quote.id,
    }
