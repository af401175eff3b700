"""Admits quotes and leases: capacity is sold only if, at that moment, it is free, surplus, and not promised to anyone else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from sublet.leases import events
from sublet.leases import store as sql
from sublet.leases.backends.base import checked_authorized_keys
from sublet.leases.deadlines.sales import DeadlineSales
from sublet.leases.model import (
    ACCELERATORS_PER_LEASE_MAX,
    Fence,
    Lease,
    NoCapacityError,
    Quote,
    QuoteExpiredError,
    WrongStateError,
)
from sublet.leases.ports import LeasePorts
from sublet.leases.projects import refuse_other
from sublet.leases.quotes import calendar
from sublet.leases.quotes.alternatives import Alternatives, write_offers
from sublet.leases.quotes.contracts import Buyer, Offered, held_until, make_lease, make_quote
from sublet.leases.quotes.places import Places
from sublet.leases.quotes.request import QuoteRequest as QuoteRequest
from sublet.leases.quotes.request import refuse_too_long
from sublet.leases.quotes.spans import windows_of
from sublet.store import Store
from sublet.surplus.blocks.model import Block
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, LimitExceededError, NotFoundError
from sublet.values.money import price_from_nano
from sublet.values.service_classes import book_name
from sublet.values.text import refuse_unsafe
from sublet.values.windows import Window

IDEMPOTENCY_KEY_MAX = 128
_STALE_HOLDS_PER_WRITE = 200


@dataclass(frozen=True, slots=True)
class BlockSale:
    """The sale of a whole block: the buyer, `price_nano` per accelerator-hour (None: the price in the price book), and who may
    log in."""

    organization_id: str
    ssh_public_keys: tuple[str, ...]
    price_nano: int | None = None


class Admission:
    """Sells capacity. Everything that a decision depends on is read inside the write transaction, under the pool's lock."""

    def __init__(self, store: Store, ports: LeasePorts) -> None:
        self._store = store
        self._ports = ports
        self._places = Places(ports)
        self._deadlines = DeadlineSales(store, ports, self._places)

    def quote(self, organization_id: str, request: QuoteRequest, idempotency_key: str | None = None) -> Quote:
        """A price that is fixed for 60 seconds. Its capacity is held for as long as `holds.hold_s` allows.

        Raises InvalidInputError, NotFoundError, NoCapacityError with alternatives, LimitExceededError, and ConflictError if the
        key was used for another request.
        """
        key = checked_key(idempotency_key)
        asked = self.checked_request(request)
        try:
            return self._store.write(lambda connection: self.quote_within(connection, organization_id, asked, key))
        except NoCapacityError as error:
            error.details["alternatives"] = self._offers(organization_id, asked, error)
            raise

    def checked_request(self, request: QuoteRequest) -> QuoteRequest:
        """The request with its class, validated as far as possible without the database. Raises InvalidInputError."""
        if not 0 < request.accelerators <= ACCELERATORS_PER_LEASE_MAX:
            raise InvalidInputError(
                f"accelerators must be 1 to {ACCELERATORS_PER_LEASE_MAX}, not {request.accelerators}"
            )
        request = replace(request, class_name=request.class_name or self._ports.class_default)
        named = self._ports.classes.named(request.class_name)
        if named.by_window and request.service_s is not None:
            raise InvalidInputError(
                f"class {named.name} is sold as a window: service_s is for classes that are sold by a deadline",
                field="service_s",
            )
        named.lengthened(request.notice_s)
        if (request.pool is None) == (request.generation is None):
            raise InvalidInputError("specify either a pool or a generation")
        return request

    def quote_within(
        self, connection: Connection, organization_id: str, request: QuoteRequest, key: str | None
    ) -> Quote:
        """The quote for a validated request, inside the caller's transaction. Raises the errors of `quote`."""
        now = self._store.clock.now()
        named = self._ports.classes.named(request.class_name)
        self._store.lock(connection, f"quotes:{organization_id}")
        if key is not None and (known := sql.quote_by_key(connection, organization_id, key)) is not None:
            if known[1] != request.as_dict():
                raise ConflictError("this idempotency key was already used for a different quote; use a new key")
            return known[0]
        open_max = self._ports.holds.open_max
        if sql.count_open_quotes(connection, organization_id, now) >= open_max:
            raise LimitExceededError(
                f"you have {open_max} open quotes, the maximum; accept or cancel one, or wait until they expire"
            )
        if not named.by_window:
            lists = self._ports.egress.checked(request.network, organization_id, named.name)
            return self._deadlines.hold(connection, organization_id, replace(request, network=lists), now, key)
        window = request.span(now)
        refuse_too_long(named, window)
        lists = self._ports.egress.checked(request.network, organization_id, named.name)
        return self._hold(connection, organization_id, replace(request, network=lists), window, now, key)

    def _offers(self, organization_id: str, request: QuoteRequest, refusal: NoCapacityError) -> list[dict[str, Any]]:
        """Alternatives, each with a quote to accept. The search only reads; the alternatives are stored afterward."""
        known = list(refusal.details.get("alternatives", ()))
        now = self._store.clock.now()
        with self._store.read() as connection:
            found = Alternatives(self._store, self._ports).find(connection, organization_id, request, known, now)

        def write(connection: Connection) -> list[dict[str, Any]]:
            self._store.lock(connection, f"quotes:{organization_id}")
            return write_offers(connection, organization_id, found, now)

        return self._store.write(write)

    def accept(
        self,
        organization_id: str,
        quote_id: str,
        ssh_public_keys: Sequence[str],
        idempotency_key: str | None = None,
        *,
        key_id: str = "",
        project: str = "",
    ) -> Lease:
        """Turn a quote into a lease. A quote becomes one lease, even if it is accepted repeatedly. `key_id` and `project`
        identify the budgets to charge besides the organization's. Raises NotFoundError, InvalidInputError, QuoteExpiredError,
        NoCapacityError if the surplus has shrunk since, ConflictError, and LimitExceededError if a budget is too small. After
        an error, the quote stays open."""
        key = checked_key(idempotency_key)
        keys = checked_authorized_keys(tuple(ssh_public_keys))

        def write(connection: Connection) -> Lease:
            now = self._store.clock.now()
            found = sql.quote_and_project(connection, quote_id, organization_id)
            if found is None:
                raise NotFoundError(f"there is no quote {quote_id!r}; request a new one")
            quote, asked_by = found
            # A quote without a project can be accepted with any key of the organization; the project of that key pays.
            if asked_by:
                refuse_other(f"quote {quote_id}", asked_by, project)
            self._store.lock(connection, f"pool:{quote.pool_id}")
            if key is not None and (known := sql.lease_by_key(connection, organization_id, key)) is not None:
                if known.quote_id != quote_id:
                    raise ConflictError("this idempotency key was already used for a different quote; use a new key")
                return _same_keys(known, keys)
            taken = sql.lease_of_quote(connection, quote_id)
            if taken is not None:
                return _same_keys(taken, keys)
            return self.accept_within(connection, quote, Buyer(keys, key, key_id, project), now)

        return self._store.write(write)

    def accept_within(self, connection: Connection, quote: Quote, buyer: Buyer, now: datetime) -> Lease:
        """The lease of a quote that has none yet, inside the caller's transaction, which holds the pool's lock. Raises the
        errors of `accept`."""
        if quote.expires_at <= now or quote.window.end <= now:
            raise QuoteExpiredError()
        sell = self._sell if quote.service_s is None else self._deadlines.sell
        return sell(connection, quote, buyer, now)

    def _hold(
        self,
        connection: Connection,
        organization_id: str,
        request: QuoteRequest,
        window: Window,
        now: datetime,
        key: str | None,
    ) -> Quote:
        # A pool is read once, under its lock: many windows may be tried, and the pool can't change before this transaction ends.
        places = Places(self._ports.remembering(self._ports))
        candidates = self._whole(connection, request, places.pools(connection, request, window))
        for span, pool in self._places_to_try(connection, request, candidates, now):
            # Pools are always locked in the order of their ids, so that two quotes can't deadlock.
            self._store.lock(connection, f"pool:{pool.id}")
            if calendar.any_expired(connection, pool.id, now):
                calendar.release_expired(connection, now, _STALE_HOLDS_PER_WRITE)
            place = places.place(connection, pool.id, request, span, organization_id, now)
            if place is None:
                continue
            offered = Offered(organization_id, pool.id, span, place.price_nano, place.currency, block_id=place.block_id)
            quote = make_quote(connection, self._ports, request, offered, now)
            quote = replace(quote, held_until=held_until(connection, self._ports, quote, now))
            self._ports.authorize(connection, organization_id, quote.total_nano, quote.currency)
            sql.insert_quote(connection, quote, key, request.as_dict())
            if quote.held_until is not None:
                self._fence(connection, quote, place.units[: request.accelerators], quote.held_until)
                events.record_quote(connection, quote, events.QUOTE_HELD, now)
            return quote
        raise places.refusal(connection, candidates, request, window, (organization_id, now))

    def _places_to_try(
        self, connection: Connection, request: QuoteRequest, pools: Sequence[Row[Any]], now: datetime
    ) -> Iterator[tuple[Window, Row[Any]]]:
        """Each possible window of the request with each pool that is online until its end, earliest first."""
        for span in windows_of(connection, self._ports, request, [pool.id for pool in pools], now):
            yield from ((span, pool) for pool in pools if pool.offline_at is None or pool.offline_at >= span.end)

    def _whole(self, connection: Connection, request: QuoteRequest, pools: list[Row[Any]]) -> list[Row[Any]]:
        """The `pools` whose engine can lease that many accelerators; some lease only whole nodes. Raises InvalidInputError."""
        steps = {pool.id: self._ports.engine_of(connection, pool.id).step for pool in pools}
        found = [pool for pool in pools if request.accelerators % steps[pool.id] == 0]
        if not found:
            step = min(steps.values())
            raise InvalidInputError(
                f"pool {pools[0].name} leases whole nodes of {step} accelerators; request a multiple of {step}, "
                f"not for {request.accelerators}",
                field="accelerators",
            )
        return found

    def sell_block(self, connection: Connection, block: Block, sale: BlockSale, now: datetime) -> Lease:
        """Sell all of `block` to one organization, inside the caller's transaction, which holds the pool's lock. Raises
        NoCapacityError if leases still hold accelerators that it needs, InvalidInputError if the price is below the block's
        minimum, and the errors of a lease's reservation."""
        keys = checked_authorized_keys(tuple(sale.ssh_public_keys))
        terms = self._ports.classes.strictest
        if terms.reclaimable:
            raise InvalidInputError(
                "blocks are sold in a class that is never taken back, and there is none; define one"
            )
        price_nano, currency = (
            (sale.price_nano, block.currency)
            if sale.price_nano is not None
            else self._ports.price(connection, block.pool_id, terms.name, block.window, sale.organization_id)
        )
        least_nano = block.min_price_nano or 0
        if sale.price_nano is not None and sale.price_nano < least_nano:
            raise InvalidInputError(
                f"price is {price_from_nano(sale.price_nano)}, below the block's minimum price of {price_from_nano(least_nano)}",
                field="price",
            )
        request = QuoteRequest(accelerators=block.accelerators, class_name=terms.name)
        price_nano = max(price_nano, least_nano)
        offered = Offered(sale.organization_id, block.pool_id, block.window, price_nano, currency, block_id=block.id)
        quote = make_quote(connection, self._ports, request, offered, now)
        free = self._places.free(
            connection, block.pool_id, block.window, sale.organization_id, now, most=block.accelerators
        )
        room = dict(self._ports.block_rooms(connection, block.pool_id, block.window))
        able = min(len(free), max((many for item, many in room.items() if item.id == block.id), default=0))
        if able < block.accelerators:
            until = calendar.last_end(
                connection, block.pool_id, self._ports.timing_of(connection, block.pool_id).fence(block.window), now
            )
            raise NoCapacityError(
                f"only {able} of {block.accelerators} accelerators are free from {format_time(block.window.start)}; the others "
                f"are held by leases and quotes{f', the last until {format_time(until)}' if until else ''}, or by model "
                "replicas: choose a later start, or reclaim them first"
            )
        sql.insert_quote(connection, quote, None, {"block": block.id})
        return self._sell(connection, quote, Buyer(keys), now)

    def cancel(self, organization_id: str, quote_id: str, project: str = "") -> Quote:
        """Cancel a quote and release the capacity that it holds. An expired or canceled quote stays as it is. Raises
        NotFoundError, OtherProjectError, and WrongStateError if it became a lease."""

        def write(connection: Connection) -> Quote:
            now = self._store.clock.now()
            found = sql.quote_and_project(connection, quote_id, organization_id)
            if found is None:
                raise NotFoundError(f"there is no quote {quote_id!r}")
            quote, asked_by = found
            refuse_other(f"quote {quote_id}", asked_by, project)
            self._store.lock(connection, f"pool:{quote.pool_id}")
            taken = sql.lease_of_quote(connection, quote_id)
            if taken is not None:
                raise WrongStateError(f"quote {quote_id} became lease {taken.id}; end that with `sublet lease end`")
            if quote.expires_at > now:
                calendar.release(connection, quote_id)
                sql.close_quote(connection, quote, now)
            return sql.quote(connection, quote_id, organization_id) or quote

        return self._store.write(write)

    def _sell(self, connection: Connection, quote: Quote, buyer: Buyer, now: datetime) -> Lease:
        """Check the surplus again as if the quote held nothing. The lease gets the accelerators that were held, or other free
        ones: an expired hold or an accelerator that failed since is no reason to refuse."""
        units = calendar.release(connection, quote.id)
        open_now = (
            self._places.available(
                connection,
                quote.pool_id,
                quote.class_name,
                quote.window,
                quote.organization_id,
                now,
                units,
                quote.accelerators,
            )
            if quote.block_id is None
            else self._places.in_block(connection, quote, now, wanted=units)
        )
        sold = (quote.class_name, quote.notice_s)
        kept = self._ports.keeps_notice(connection, quote.pool_id, sold, quote.window, quote.accelerators)
        if len(open_now) < quote.accelerators or not kept:
            raise NoCapacityError("this capacity has since been sold or claimed by the owner; request a new quote")
        self._ports.authorize(connection, quote.organization_id, quote.total_nano, quote.currency)
        lease = make_lease(connection, self._ports, quote, open_now[: quote.accelerators], buyer, now)
        self._fence(connection, quote, list(lease.unit_ids), None, holder_id=lease.id)
        return lease

    def _fence(
        self,
        connection: Connection,
        quote: Quote,
        units: list[str],
        expires_at: datetime | None,
        holder_id: str | None = None,
    ) -> None:
        fenced = self._ports.timing_of(connection, quote.pool_id).fence(quote.window)
        own = self._ports.own_notice_of(quote.class_name, quote.notice_s)
        calendar.insert_fences(
            connection,
            [
                Fence(
                    holder_id or quote.id,
                    unit,
                    quote.pool_id,
                    book_name(quote.class_name, own is not None),
                    quote.organization_id,
                    quote.window,
                    fenced,
                    expires_at,
                    quote.block_id,
                )
                for unit in units
            ],
        )


def _same_keys(lease: Lease, keys: tuple[str, ...]) -> Lease:
    """The lease of an accepted quote, for a caller with the same SSH keys. Raises ConflictError for other keys, so that nobody
    assumes that they can log in."""
    if lease.ssh_public_keys != keys:
        raise ConflictError(f"this quote became lease {lease.id} with different ssh_public_keys; request a new quote")
    return lease


def checked_key(key: str | None) -> str | None:
    """An idempotency key, or None. Raises InvalidInputError."""
    if key is None:
        return None
    if not 0 < len(key) <= IDEMPOTENCY_KEY_MAX:
        raise InvalidInputError(f"Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_MAX} printable characters")
    refuse_unsafe(key, "Idempotency-Key")
    return key
