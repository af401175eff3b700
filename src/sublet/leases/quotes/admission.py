"""Quote, hold, lease: what is promised is free, is surplus, and is nobody else's, at the moment it is promised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from sublet.leases import events
from sublet.leases import store as sql
from sublet.leases.backends.base import checked_authorized_keys
from sublet.leases.model import (
    ACCELERATORS_PER_LEASE_MAX,
    QUOTE_S,
    Fence,
    Lease,
    LeaseState,
    NoCapacityError,
    OnFailure,
    Quote,
    QuoteExpiredError,
    UnitState,
    WrongStateError,
    checked_ahead,
    checked_window,
)
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes import calendar
from sublet.leases.quotes.holds import ROLLING_S, hold_s
from sublet.leases.reclaim import store as reclaim_store
from sublet.store import Store
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, LimitExceededError, NotFoundError
from sublet.values.ids import new_id
from sublet.values.text import refuse_unsafe
from sublet.values.windows import Window

IDEMPOTENCY_KEY_MAX = 128
_STALE_HOLDS_PER_WRITE = 200


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """What a customer asks for: `pool` (id or name) or any pool of `generation`; from `start` (now if None) to `end`, or
    for `duration_s`. Without a class, the operator's default."""

    accelerators: int
    class_name: str
    end: datetime | None = None
    start: datetime | None = None
    pool: str | None = None
    generation: str | None = None
    duration_s: int | None = None
    on_failure: OnFailure = OnFailure.SHRINK

    def window(self, now: datetime) -> Window:
        """Raises InvalidInputError where it says neither or both of end and duration, or can't be sold."""
        start = checked_ahead(self.start or now, now)
        if (self.end is None) == (self.duration_s is None):
            raise InvalidInputError("send either end or duration_s")
        window = Window(start, self.end) if self.end else Window.starting(start, self.duration_s or 0)
        return checked_window(window, now)

    def as_dict(self) -> dict[str, Any]:
        return {
            "accelerators": self.accelerators,
            "class": self.class_name,
            "end": format_time(self.end) if self.end else None,
            "duration_s": self.duration_s,
            "start": format_time(self.start) if self.start else None,
            "pool": self.pool,
            "generation": self.generation,
            "on_failure": self.on_failure.value,
        }


class Admission:
    """Sells. Everything that decides is read again inside the write transaction, under the pool's lock."""

    def __init__(self, store: Store, ports: LeasePorts) -> None:
        self._store = store
        self._ports = ports

    def quote(self, organization_id: str, request: QuoteRequest, idempotency_key: str | None = None) -> Quote:
        """A price that stands for 60 seconds; its capacity is held as long as `holds.hold_s` allows.

        Raises InvalidInputError, NotFoundError, NoCapacityError with alternatives, LimitExceededError, and ConflictError
        where the key was used for another request."""
        key = checked_key(idempotency_key)
        if not 0 < request.accelerators <= ACCELERATORS_PER_LEASE_MAX:
            raise InvalidInputError(
                f"accelerators must be 1 to {ACCELERATORS_PER_LEASE_MAX}, not {request.accelerators}"
            )
        request = replace(request, class_name=request.class_name or self._ports.class_default)
        named = self._ports.classes.named(request.class_name)
        if not named.by_window:
            raise InvalidInputError(f"class {named.name} is sold as accelerator-hours by a deadline, not as a window")
        if (request.pool is None) == (request.generation is None):
            raise InvalidInputError("name either a pool or a generation")

        def write(connection: Connection) -> Quote:
            now = self._store.clock.now()
            self._store.lock(connection, f"quotes:{organization_id}")
            if key is not None and (known := sql.quote_by_key(connection, organization_id, key)) is not None:
                if known[1] != request.as_dict():
                    raise ConflictError("this idempotency key was used for another quote; choose a new key")
                return known[0]
            open_max = self._ports.holds.open_max
            if len(sql.open_quotes(connection, organization_id, now)) >= open_max:
                raise LimitExceededError(f"{open_max} quotes are open; accept or cancel one, or wait until they expire")
            return self._hold(connection, organization_id, request, request.window(now), now, key)

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
        """Turn a quote into a lease; a quote makes one lease, however often it is accepted. `key_id` and `project` say whose
        budgets it counts against besides the organization's. Raises NotFoundError, InvalidInputError, QuoteExpiredError,
        NoCapacityError where the surplus has shrunk since, ConflictError, and LimitExceededError where a budget has not
        enough left; the quote then stays open."""
        key = checked_key(idempotency_key)
        keys = checked_authorized_keys(tuple(ssh_public_keys))

        def write(connection: Connection) -> Lease:
            now = self._store.clock.now()
            quote = sql.quote(connection, quote_id, organization_id)
            if quote is None:
                raise NotFoundError(f"there is no quote {quote_id!r}; ask for a new one")
            self._store.lock(connection, f"pool:{quote.pool_id}")
            if key is not None and (known := sql.lease_by_key(connection, organization_id, key)) is not None:
                if known.quote_id != quote_id:
                    raise ConflictError("this idempotency key was used for another quote; choose a new key")
                return _same_keys(known, keys)
            taken = sql.lease_of_quote(connection, quote_id)
            if taken is not None:
                return _same_keys(taken, keys)
            if quote.expires_at <= now or quote.window.end <= now:
                raise QuoteExpiredError()
            return self._sell(connection, quote, keys, now, key, (key_id, project))

        return self._store.write(write)

    def _hold(
        self,
        connection: Connection,
        organization_id: str,
        request: QuoteRequest,
        window: Window,
        now: datetime,
        key: str | None,
    ) -> Quote:
        candidates = self._pools(connection, request, window)
        for pool in candidates:
            # Pools are locked in the order of their ids by everybody, so that two quotes can't wait for each other.
            self._store.lock(connection, f"pool:{pool.id}")
            calendar.release_expired(connection, now, _STALE_HOLDS_PER_WRITE)
            units = self._available(connection, pool.id, request.class_name, window, organization_id, now)
            if len(units) < request.accelerators:
                continue
            terms = self._ports.classes.named(request.class_name)
            price_nano, currency = self._ports.price(connection, pool.id, request.class_name, window, organization_id)
            quote = Quote(
                id=new_id("quo"),
                organization_id=organization_id,
                pool_id=pool.id,
                class_name=request.class_name,
                notice_s=terms.notice_s,
                accelerators=request.accelerators,
                window=window,
                price_nano=price_nano,
                currency=currency,
                created_at=now,
                expires_at=now + timedelta(seconds=QUOTE_S),
                credit_ratio=terms.credit_ratio,
                free_s=terms.free_s,
                held_until=self._held_until(connection, organization_id, pool.id, request.accelerators, window, now),
                on_failure=request.on_failure,
            )
            self._ports.authorize(connection, organization_id, quote.total_nano, currency)
            sql.insert_quote(connection, quote, key, request.as_dict())
            if quote.held_until is not None:
                self._fence(connection, quote, units[: request.accelerators], quote.held_until)
                events.record_quote(connection, quote, events.QUOTE_HELD, now)
            return quote
        raise self._no_capacity(connection, candidates, organization_id, request, window, now)

    def cancel(self, organization_id: str, quote_id: str) -> Quote:
        """Give up a quote: what it holds is on sale again. One that has expired or was canceled stays as it is. Raises
        NotFoundError, and WrongStateError where it became a lease."""

        def write(connection: Connection) -> Quote:
            now = self._store.clock.now()
            quote = sql.quote(connection, quote_id, organization_id)
            if quote is None:
                raise NotFoundError(f"there is no quote {quote_id!r}")
            self._store.lock(connection, f"pool:{quote.pool_id}")
            taken = sql.lease_of_quote(connection, quote_id)
            if taken is not None:
                raise WrongStateError(f"quote {quote_id} became lease {taken.id}; end that with `sublet lease end`")
            if quote.expires_at > now:
                calendar.release(connection, quote_id)
                sql.close_quote(connection, quote, now)
            return sql.quote(connection, quote_id, organization_id) or quote

        return self._store.write(write)

    def _held_until(
        self,
        connection: Connection,
        organization_id: str,
        pool_id: str,
        accelerators: int,
        window: Window,
        now: datetime,
    ) -> datetime | None:
        since = now - timedelta(seconds=ROLLING_S)
        holds = sql.idle_holds(connection, organization_id, pool_id, since)
        capacity = sql.capacity(connection, pool_id)
        seconds = hold_s(self._ports.holds, accelerators, window, capacity, holds, now)
        return now + timedelta(seconds=seconds) if seconds else None

    def _sell(
        self,
        connection: Connection,
        quote: Quote,
        keys: tuple[str, ...],
        now: datetime,
        key: str | None,
        buyer: tuple[str, str],
    ) -> Lease:
        """The surplus is asked once more as if the hold were not there. What it held is the lease's, or else others that are
        free: a hold that is over, or an accelerator that has failed since, is no reason to refuse."""
        units = {fence.unit_id for fence in calendar.fences_of(connection, quote.id)}
        calendar.release(connection, quote.id)
        open_now = self._available(
            connection, quote.pool_id, quote.class_name, quote.window, quote.organization_id, now, wanted=units
        )
        if len(open_now) < quote.accelerators:
            raise NoCapacityError("the owner needs this capacity since you asked, or it is sold; ask for a new quote")
        units = set(open_now[: quote.accelerators])
        self._ports.authorize(connection, quote.organization_id, quote.total_nano, quote.currency)
        devices = calendar.devices_of(connection, sorted(units))
        lease = Lease(
            id=new_id("lse"),
            organization_id=quote.organization_id,
            pool_id=quote.pool_id,
            quote_id=quote.id,
            class_name=quote.class_name,
            notice_s=quote.notice_s,
            accelerators=quote.accelerators,
            unit_ids=tuple(sorted(units)),
            devices=tuple(devices[unit] for unit in sorted(units)),
            window=quote.window,
            price_nano=quote.price_nano,
            currency=quote.currency,
            state=LeaseState.SCHEDULED,
            ssh_public_keys=keys,
            created_at=now,
            credit_ratio=quote.credit_ratio,
            free_s=quote.free_s,
            on_failure=quote.on_failure,
        )
        self._ports.reserve(connection, lease, *buyer)
        sql.insert_lease(connection, lease, key)
        self._fence(connection, quote, sorted(units), None, holder_id=lease.id)
        sql.set_unit_states(connection, lease.pool_id, lease.unit_ids, UnitState.FENCED, lease.id, None, now)
        actor = f"customer {quote.organization_id}"
        sql.record(connection, lease.id, None, LeaseState.REQUESTED, now, actor, f"quote {quote.id} accepted")
        sql.record(
            connection,
            lease.id,
            LeaseState.REQUESTED,
            LeaseState.SCHEDULED,
            now,
            "admission",
            f"{lease.accelerators} accelerators fenced until {format_time(lease.window.end)}",
        )
        return lease

    def _available(
        self,
        connection: Connection,
        pool_id: str,
        class_name: str,
        window: Window,
        organization_id: str,
        now: datetime,
        wanted: set[str] | None = None,
    ) -> list[str]:
        """Accelerators that may be sold, at most as many as the surplus allows; `wanted` ones first."""
        fenced = self._ports.timing.fence(window)
        if not self._ports.shareable(connection, pool_id) and calendar.other_tenants(
            connection, pool_id, organization_id, fenced, now
        ):
            return []
        free = [unit.id for unit in calendar.free_units(connection, pool_id, fenced, now)]
        if wanted is not None:
            free.sort(key=lambda unit: unit not in wanted)
        room = len(free) - reclaim_store.held_for_owner(connection, pool_id, window)
        if room <= 0:
            return []
        return free[: max(0, min(room, self._ports.sellable(connection, pool_id, class_name, window)))]

    def _pools(self, connection: Connection, request: QuoteRequest, window: Window) -> list[Row[Any]]:
        """Where the request may be met, in the order of their ids. Raises NotFoundError."""
        if request.pool is not None:
            named = sql.pool_named(connection, request.pool)
            found = [named] if named is not None else []
        else:
            found = sql.pools_of(connection, request.generation)
        standing = [pool for pool in found if pool.offline_at is None or pool.offline_at >= window.end]
        if not found:
            raise NotFoundError(_no_pool(request, sql.pools_of(connection)))
        if not standing:
            raise NoCapacityError(
                f"pool {found[0].name} goes offline before {format_time(window.end)}; choose another one"
            )
        return sorted(standing, key=lambda pool: str(pool.id))

    def _fence(
        self,
        connection: Connection,
        quote: Quote,
        units: list[str],
        expires_at: datetime | None,
        holder_id: str | None = None,
    ) -> None:
        fenced = self._ports.timing.fence(quote.window)
        calendar.insert_fences(
            connection,
            [
                Fence(
                    holder_id or quote.id,
                    unit,
                    quote.pool_id,
                    quote.class_name,
                    quote.organization_id,
                    quote.window,
                    fenced,
                    expires_at,
                )
                for unit in units
            ],
        )

    def _other_classes(self, request: QuoteRequest) -> list[str]:
        return [item.name for item in self._ports.classes.on_sale if item.by_window and item.name != request.class_name]

    def _no_capacity(
        self,
        connection: Connection,
        pools: list[Row[Any]],
        organization_id: str,
        request: QuoteRequest,
        window: Window,
        now: datetime,
    ) -> NoCapacityError:
        """Fewer of the same, another class, or half the time: what the same customer could have right now."""
        half = Window(window.start, window.start + (window.end - window.start) / 2)
        tries = [(request.class_name, window, "fewer")]
        tries += [(name, window, "class") for name in self._other_classes(request)]
        if half.seconds >= 60:
            tries.append((request.class_name, half, "shorter"))
        alternatives: list[dict[str, Any]] = []
        for pool in pools:
            for class_name, span, kind in tries:
                units = self._available(connection, pool.id, class_name, span, organization_id, now)
                count = min(len(units), request.accelerators)
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
        return NoCapacityError(
            f"not enough capacity for {_accelerators(request.accelerators)} as {request.class_name} in that window: it is sold, or "
            f"the owner may need it; {_offer(alternatives[0], window) if alternatives else 'try another window'}",
            alternatives=alternatives,
        )


def _same_keys(lease: Lease, keys: tuple[str, ...]) -> Lease:
    """The lease that a quote has made, for who asks with the same keys. Raises ConflictError: nobody may believe that other
    keys can log in."""
    if lease.ssh_public_keys != keys:
        raise ConflictError(f"this quote made lease {lease.id} with other ssh_public_keys; ask for a new quote")
    return lease


def _accelerators(count: int) -> str:
    return f"{count} accelerator{'' if count == 1 else 's'}"


def _no_pool(request: QuoteRequest, pools: Sequence[Row[Any]]) -> str:
    """What to say of a pool or a generation that there is not."""
    if request.pool is not None:
        return f"there is no pool {request.pool!r}; GET /v1/pools lists them"
    there = ", ".join(sorted({str(pool.generation) for pool in pools}))
    what = f"no pool of generation {request.generation!r}" if request.generation is not None else "no pool"
    return f"there is {what}; {f'there is {there}' if there else 'this Sublet has none yet'}"


def _offer(alternative: dict[str, Any], window: Window) -> str:
    """What could be had instead, in words."""
    until = f" until {alternative['end']}" if alternative["end"] != format_time(window.end) else ""
    return f"available instead: {_accelerators(alternative['accelerators'])} as {alternative['class']}{until}"


def checked_key(key: str | None) -> str | None:
    """An idempotency key, or None. Raises InvalidInputError."""
    if key is None:
        return None
    if not 0 < len(key) <= IDEMPOTENCY_KEY_MAX:
        raise InvalidInputError(f"Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_MAX} printable characters")
    refuse_unsafe(key, "Idempotency-Key")
    return key
