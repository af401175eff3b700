"""Finds where a request can be met, from a block or by the forecast, and explains a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any

from sqlalchemy import Connection, Row

from sublet.leases import store as sql
from sublet.leases.deadlines import store as deadline_sql
from sublet.leases.model import ACCELERATORS_PER_LEASE_MAX, FORECAST_WINDOW_S_MAX, NoCapacityError, Quote
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes import calendar
from sublet.leases.quotes.request import QuoteRequest
from sublet.leases.reclaim import store as reclaim_store
from sublet.surplus.model import BeyondForecastError
from sublet.surplus.rule.blocks import chosen
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError, NotFoundError
from sublet.values.windows import Window

DAYS_WITHOUT_BLOCK = FORECAST_WINDOW_S_MAX // 86_400


@dataclass(frozen=True, slots=True)
class Place:
    """The accelerators for a request, their source, and the price per accelerator-hour."""

    units: list[str]
    price_nano: int
    currency: str
    block_id: str | None = None


class Places:
    """Finds where requests can be met, inside the selling transaction. Changes nothing."""

    def __init__(self, ports: LeasePorts) -> None:
        self._ports = ports

    def place(
        self,
        connection: Connection,
        pool_id: str,
        request: QuoteRequest,
        window: Window,
        organization_id: str,
        now: datetime,
    ) -> Place | None:
        """The source and price of the request on that pool: a block that fits, at no less than the block's minimum price, or
        else the forecast. None if neither is possible."""
        firm = self._ports.classes.named(request.class_name).notice_s is None
        rooms = dict(self._ports.block_rooms(connection, pool_id, window)) if firm else {}
        while block := chosen(list(rooms), {item.id: room for item, room in rooms.items()}, request.accelerators):
            units = self.free(connection, pool_id, window, organization_id, now, most=request.accelerators)
            if len(units) < request.accelerators:
                break
            price_nano, currency = self._ports.price(connection, pool_id, request.class_name, window, organization_id)
            if block.min_price_nano is None or block.currency == currency:
                return Place(units, max(price_nano, block.min_price_nano or 0), currency, block.id)
            # A minimum price in another currency can't be compared.
            del rooms[block]
        if window.seconds > FORECAST_WINDOW_S_MAX:
            return None
        try:
            units = self.available(
                connection, pool_id, request.class_name, window, organization_id, now, most=request.accelerators
            )
        except BeyondForecastError:
            # The customer did not ask for exactly this window: another one may be available.
            if request.finish_by is None:
                raise
            return None
        sold = (request.class_name, request.notice_s)
        if len(units) < request.accelerators or not self._ports.keeps_notice(
            connection, pool_id, sold, window, request.accelerators
        ):
            return None
        price_nano, currency = self._ports.price(connection, pool_id, request.class_name, window, organization_id)
        # Rounded up: a longer notice is never sold for less than its rule says.
        factor = self._ports.classes.named(request.class_name).notice_factor(request.notice_s)
        return Place(units, ceil(price_nano * factor), currency)

    def in_block(self, connection: Connection, quote: Quote, now: datetime, wanted: set[str]) -> list[str]:
        """Accelerators of the quote's block that are still available for it; empty if the block no longer has enough."""
        rooms = {block.id: room for block, room in self._ports.block_rooms(connection, quote.pool_id, quote.window)}
        most = min(quote.accelerators, rooms.get(quote.block_id or "", 0))
        return self.free(connection, quote.pool_id, quote.window, quote.organization_id, now, wanted, most)

    def available(
        self,
        connection: Connection,
        pool_id: str,
        class_name: str,
        window: Window,
        organization_id: str,
        now: datetime,
        wanted: set[str] | None = None,
        most: int = ACCELERATORS_PER_LEASE_MAX,
    ) -> list[str]:
        """At most `most` accelerators that may be sold, limited by the surplus, `wanted` ones first."""
        most = min(most, self._ports.sellable(connection, pool_id, class_name, window))
        return self.free(connection, pool_id, window, organization_id, now, wanted, most) if most > 0 else []

    def free(
        self,
        connection: Connection,
        pool_id: str,
        window: Window,
        organization_id: str,
        now: datetime,
        wanted: set[str] | None = None,
        most: int = ACCELERATORS_PER_LEASE_MAX,
    ) -> list[str]:
        """At most `most` accelerators that nobody holds over `window` and that no reclaim holds for the owner, `wanted` ones
        first."""
        fenced = self._ports.timing_of(connection, pool_id).fence(window)
        if not self._ports.shareable(connection, pool_id) and (
            calendar.other_tenants(connection, pool_id, organization_id, fenced, now)
            or deadline_sql.other_tenants(connection, pool_id, organization_id)
        ):
            return []
        kept = reclaim_store.held_for_owner(connection, pool_id, window)
        free = calendar.free_ids(connection, pool_id, fenced, now, most + kept, wanted or ())
        return free[: max(0, len(free) - kept)]

    def pools(self, connection: Connection, request: QuoteRequest, window: Window) -> list[Row[Any]]:
        """The pools where the request may be met, by id. Raises NotFoundError."""
        if request.pool is not None:
            named = sql.pool_named(connection, request.pool)
            found = [named] if named is not None else []
        else:
            found = sql.pools_of(connection, request.generation)
        if not found:
            raise NotFoundError(_no_pool(request, sql.pools_of(connection)))
        able = [pool for pool in found if request.needs <= self._ports.features(pool.backend)]
        if not able:
            raise InvalidInputError(
                f"pool {found[0].name} does not support {' and '.join(sorted(request.needs))}; choose another pool or class"
            )
        standing = [pool for pool in able if pool.offline_at is None or pool.offline_at >= window.end]
        if not standing:
            raise NoCapacityError(
                f"pool {able[0].name} goes offline before {format_time(window.end)}; choose another one"
            )
        return sorted(standing, key=lambda pool: str(pool.id))

    def _other_classes(self, request: QuoteRequest) -> list[str]:
        return [item.name for item in self._ports.classes.on_sale if item.by_window and item.name != request.class_name]

    def refusal(
        self,
        connection: Connection,
        pools: list[Row[Any]],
        request: QuoteRequest,
        window: Window,
        asker: tuple[str, datetime],
    ) -> NoCapacityError:
        """The error with alternatives that are available now: fewer accelerators, another class, or half the time. `asker` is
        the organization and the current time."""
        organization_id, now = asker
        if window.seconds > FORECAST_WINDOW_S_MAX:
            return self._no_block(connection, pools, request, window)
        half = Window(window.start, window.start + (window.end - window.start) / 2)
        tries = [(request.class_name, window, "fewer")]
        tries += [(name, window, "class") for name in self._other_classes(request)]
        if half.seconds >= 60:
            tries.append((request.class_name, half, "shorter"))
        alternatives: list[dict[str, Any]] = []
        for pool in pools:
            for class_name, span, kind in tries:
                most = request.accelerators
                count = len(self.available(connection, pool.id, class_name, span, organization_id, now, most=most))
                if count:
                    alternatives.append(
                        {
                            "kind": kind,
                            "pool_id": pool.id,
                            "class": class_name,
                            "accelerators": count,
                            "start": format_time(span.start),
                            "end": format_time(span.end),
                        }
                    )
        asked = f"{accelerator_count(request.accelerators)} as {request.class_name}"
        return NoCapacityError(
            f"not enough capacity for {asked} in that window: it is sold, or the owner may need it; "
            f"{_offer(alternatives[0], window) if alternatives else 'try another window'}",
            alternatives=alternatives,
        )

    def _no_block(
        self, connection: Connection, pools: list[Row[Any]], request: QuoteRequest, window: Window
    ) -> NoCapacityError:
        """The refusal of a lease that is too long for the forecast, with what each pool's fullest block could provide."""
        alternatives = [
            {
                "kind": "fewer",
                "pool_id": pool.id,
                "class": request.class_name,
                "accelerators": count,
                "start": format_time(window.start),
                "end": format_time(window.end),
            }
            for pool in pools
            if (count := max((room for _, room in self._ports.block_rooms(connection, pool.id, window)), default=0))
        ]
        return NoCapacityError(
            f"no block has {accelerator_count(request.accelerators)} for all of that window, and a lease of more than "
            f"{DAYS_WITHOUT_BLOCK} days is sold from a block alone; "
            f"{_offer(alternatives[0], window) if alternatives else 'ask for a shorter one'}",
            alternatives=alternatives,
        )


def accelerator_count(count: int) -> str:
    """`1 accelerator`, `8 accelerators`."""
    return f"{count} accelerator{'' if count == 1 else 's'}"


def _no_pool(request: QuoteRequest, pools: Sequence[Row[Any]]) -> str:
    """The message for a pool or generation that does not exist."""
    if request.pool is not None:
        return f"there is no pool {request.pool!r}; GET /v1/pools lists them"
    there = ", ".join(sorted({str(pool.generation) for pool in pools}))
    what = f"no pool of generation {request.generation!r}" if request.generation is not None else "no pool"
    return f"there is {what}; {f'there is {there}' if there else 'this Sublet has none yet'}"


def _offer(alternative: dict[str, Any], window: Window) -> str:
    """An alternative in words."""
    until = f" until {alternative['end']}" if alternative["end"] != format_time(window.end) else ""
    return f"available instead: {accelerator_count(alternative['accelerators'])} as {alternative['class']}{until}"
