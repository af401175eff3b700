"""Keeps requests that could not be met, and offers each what it asked for as soon as there is capacity."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from sublet.leases import store as leases_sql
from sublet.leases.backends.base import checked_authorized_keys
from sublet.leases.jobs.model import PriceLimitError
from sublet.leases.model import NoCapacityError, Quote
from sublet.leases.ports import LeasePorts
from sublet.leases.projects import refuse_other
from sublet.leases.quotes.admission import Admission
from sublet.leases.quotes.alternatives import Alternatives
from sublet.leases.quotes.contracts import Buyer
from sublet.leases.quotes.places import Places
from sublet.leases.quotes.request import QuoteRequest, refuse_too_long
from sublet.leases.waitlist import events
from sublet.leases.waitlist import store as sql
from sublet.leases.waitlist.model import (
    Entry,
    EntryState,
    NewEntry,
    UnmetDemand,
    WaitlistFullError,
    WaitlistStateError,
    in_turn,
    kept_until,
    lapsed,
    unmet,
)
from sublet.store import Store, audit
from sublet.store.paging import Page, PageRequest
from sublet.values.errors import InvalidInputError, NotFoundError, SubletError
from sublet.values.ids import new_id
from sublet.values.money import price_from_nano

CHECKS_PER_ROUND = 200
KEPT = timedelta(days=30)
FORGOTTEN_PER_ROUND = 500
OVER_KEPT = 100
"""Of an organization's entries that are over: joining and leaving again and again must not fill the table."""
NO_CAPACITY = "there is not enough capacity"
NOT_HELD = "your open quotes already hold as much as quotes may; accept or cancel one"
_log = structlog.get_logger("sublet.leases")


class _NotHeldError(SubletError):
    """The offer could not be held within the limits of quotes."""

    code = "not_held"


class Waitlist:
    """The use cases of the waiting list. An offer is a quote like any other: the transaction that sells checks it, and holds the
    accelerators, so two entries never get the same ones."""

    def __init__(self, store: Store, ports: LeasePorts) -> None:
        self._limits = ports.waitlist
        # A person who gets a message needs longer to answer than one who waits at a terminal. The shares of a pool that an
        # organization's quotes may hold stay the same.
        self._ports = replace(ports, holds=replace(ports.holds, hold_s=ports.waitlist.offer_s))
        self._store = store
        self._admission = Admission(store, self._ports)
        self._checked = 0

    def join(self, organization_id: str, wanted: NewEntry, key_id: str = "", project: str = "") -> Entry:
        """Keep a request until it can be met. Raises InvalidInputError and NotFoundError for one that never could be, and
        WaitlistFullError."""
        request = self._admission.checked_request(replace(wanted.request, project=project))
        keys = checked_authorized_keys(wanted.ssh_public_keys, least=0)

        def write(connection: Connection) -> Entry:
            now = self._store.clock.now()
            self._store.lock(connection, f"waitlist:{organization_id}")
            self._refuse_full(connection, organization_id)
            currency = self._checked_now(connection, organization_id, request, now)
            until = kept_until(replace(wanted, request=request), self._limits, now)
            entry = Entry(
                new_id("wtl"), organization_id, request, EntryState.WAITING, now, now, until, wanted.price_max_nano,
                currency, keys, key_id,
            )  # fmt: skip
            sql.insert_entry(connection, entry)
            sql.forget(connection, sql.beyond(connection, organization_id, OVER_KEPT))
            return entry

        return self._store.write(write)

    def entry(self, entry_id: str, organization_id: str | None) -> Entry:
        """Raises NotFoundError, the same for another's."""
        with self._store.read() as connection:
            return _found(sql.entry(connection, entry_id, organization_id), entry_id)

    def page(self, organization_id: str | None, wanted: PageRequest) -> Page[Entry]:
        """A page of entries, the newest first; of one organization if it is given."""
        with self._store.read() as connection:
            return sql.page(connection, organization_id, wanted)

    def unmet(self) -> list[UnmetDemand]:
        """What waits or has an open offer, by generation or pool and class, the most first. No organization is named."""
        with self._store.read() as connection:
            names = {str(pool.id): str(pool.name) for pool in leases_sql.pools_of(connection)}
            return unmet(sql.standing(connection, self._limits.total_max), names, self._store.clock.now())

    def leave(self, entry_id: str, organization_id: str | None, project: str = "") -> Entry:
        """Take a request off the list and cancel its open offer. Repeating this has no effect. Raises NotFoundError,
        OtherProjectError, and WaitlistStateError if it became a lease."""

        def write(connection: Connection) -> Entry:
            found = _found(sql.entry(connection, entry_id, organization_id), entry_id)
            self._store.lock(connection, f"waitlist:{found.organization_id}")
            found = _found(sql.entry(connection, entry_id, organization_id), entry_id)
            refuse_other(f"entry {entry_id}", found.request.project, project)
            taken = leases_sql.lease_of_quote(connection, found.quote_id) if found.quote_id else None
            if found.state is EntryState.LEASED or taken is not None:
                lease_id = found.lease_id or (taken.id if taken else "")
                raise WaitlistStateError(f"{entry_id} became lease {lease_id}; end that with `sublet lease end`")
            if found.state.over:
                return found
            gone = replace(found, state=EntryState.LEFT, reason="taken off the list")
            sql.keep(connection, gone, found.state)
            return gone

        gone = self._store.write(write)
        if gone.state is EntryState.LEFT and gone.quote_id is not None:
            # If this is cut short, the quote expires by itself.
            try:
                self._admission.cancel(gone.organization_id, gone.quote_id)
            except SubletError as error:
                _log.warning("waitlist_offer_not_canceled", entry=entry_id, error=error.message)
        return gone

    def tend(self) -> list[Entry]:
        """One round: note what became of offers, then offer capacity in turn. Returns the entries that got an offer. It may be
        cut short at any point, and several processes may do it at once."""
        now = self._store.clock.now()
        with self._store.read() as connection:
            standing = sql.standing(connection, self._limits.total_max)
            old = sql.old(connection, now - KEPT, FORGOTTEN_PER_ROUND)
        for entry in standing:
            if entry.state is EntryState.OFFERED or entry.expires_at <= now:
                self._settle(entry, now)
        with self._store.read() as connection:
            waiting = in_turn(sql.standing(connection, self._limits.total_max))
            part = self._part(waiting)
            reasons = self._reasons(connection, part, now)
        offered = [made for entry in part if reasons[entry.id] is None and (made := self._offer(entry.id, now))]
        self._note({entry: told for entry in part if (told := reasons[entry.id]) not in (None, entry.reason)})
        if old:
            self._store.write(lambda connection: sql.forget(connection, old))
        return offered

    def _part(self, waiting: list[Entry]) -> list[Entry]:
        """The entries to look at in this round: the next CHECKS_PER_ROUND, from the first one again once all were looked at."""
        if self._checked >= len(waiting):
            self._checked = 0
        part = waiting[self._checked : self._checked + CHECKS_PER_ROUND]
        self._checked += len(part)
        return part

    def _reasons(self, connection: Connection, entries: list[Entry], now: datetime) -> dict[str, str | None]:
        """Why each entry has to wait; None if it can be offered something now. Only reads: an attempt that must fail would
        delay sales."""
        search = Alternatives(self._store, self._ports)
        reasons: dict[str, str | None] = {}
        for entry in entries:
            try:
                quote = search.offered(connection, entry.organization_id, entry.request, now)
                reasons[entry.id] = NO_CAPACITY if quote is None else _above(entry, quote)
            except SubletError as error:
                reasons[entry.id] = error.message
        return reasons

    def _offer(self, entry_id: str, now: datetime) -> Entry | None:
        """Hold what the entry asks for, and buy it if it says so: all of it in one transaction. None if that is not possible."""
        with self._store.read() as connection:
            entry = sql.entry(connection, entry_id)
        if entry is None:
            return None

        def write(connection: Connection) -> Entry | None:
            self._store.lock(connection, f"waitlist:{entry.organization_id}")
            current = sql.entry(connection, entry_id)
            if current is None or current.state is not EntryState.WAITING or current.expires_at <= now:
                return None
            if current.buys and not self._ports.key_stands(connection, current.key_id):
                raise WaitlistStateError("the key that asked for it was revoked or has expired, so nothing is bought")
            quote = self._admission.quote_within(connection, current.organization_id, current.request, None)
            if told := _above(current, quote):
                raise PriceLimitError(told)
            if quote.held_until is None:
                raise _NotHeldError(NOT_HELD)
            until = min(max(quote.expires_at, now + timedelta(seconds=self._limits.offer_s)), quote.window.end)
            quote = replace(quote, expires_at=until)
            sql.extend_quote(connection, quote.id, until)
            lease_id = None
            if current.buys:
                buyer = Buyer(current.ssh_public_keys, None, current.key_id, current.request.project)
                lease_id = self._admission.accept_within(connection, quote, buyer, now).id
            made = replace(
                current,
                state=EntryState.OFFERED if lease_id is None else EntryState.LEASED,
                quote_id=quote.id,
                lease_id=lease_id,
                offers=current.offers + 1,
                reason="",
            )
            if not sql.keep(connection, made, EntryState.WAITING):
                raise WaitlistStateError(f"{entry_id} is no longer on the waiting list")
            events.record_offer(connection, made, quote, now)
            return made

        try:
            with audit.act(_acting(entry, "leases.offer_waitlist_entry")):
                return self._store.write(write)
        except NoCapacityError:
            return None
        except SubletError as error:
            self._note({entry: error.message})
            return None

    def _settle(self, entry: Entry, now: datetime) -> None:
        """Note what became of an entry's offer, and whether its time is over."""

        def write(connection: Connection) -> None:
            self._store.lock(connection, f"waitlist:{entry.organization_id}")
            current = sql.entry(connection, entry.id)
            if current is None or current.state.over:
                return
            after = current
            if current.state is EntryState.OFFERED and current.quote_id is not None:
                taken = leases_sql.lease_of_quote(connection, current.quote_id)
                quote = leases_sql.quote(connection, current.quote_id, current.organization_id)
                if taken is not None:
                    after = replace(current, state=EntryState.LEASED, lease_id=taken.id, reason="")
                elif quote is None or quote.expires_at <= now:
                    after = lapsed(current, now)
            if after.state is EntryState.WAITING and after.expires_at <= now:
                after = replace(after, state=EntryState.LAPSED, reason="its time was over before it could be met")
            changed = after is not current and sql.keep(connection, after, current.state)
            if changed and after.state is EntryState.LAPSED:
                events.record_lapsed(connection, after, now)

        self._store.write(write)

    def _note(self, told: dict[Entry, str | None]) -> None:
        """Write down why entries wait, if that has changed."""

        def write(connection: Connection) -> None:
            for entry, reason in told.items():
                if reason and entry.reason != reason:
                    sql.note(connection, entry.id, reason)

        if told:
            self._store.write(write)

    def _refuse_full(self, connection: Connection, organization_id: str) -> None:
        mine = self._limits.entries_max
        if sql.count_standing(connection, organization_id) >= mine:
            raise WaitlistFullError(
                f"your organization has {mine} requests on the waiting list, the maximum; leave one with "
                "`sublet waitlist leave`"
            )
        if sql.count_standing(connection) >= self._limits.total_max:
            raise WaitlistFullError("the waiting list is full; try again later")

    def _checked_now(
        self, connection: Connection, organization_id: str, request: QuoteRequest, now: datetime
    ) -> str | None:
        """The currency in which the organization would be quoted, if there is a price. Raises InvalidInputError and
        NotFoundError for a request that no capacity can meet."""
        named = self._ports.classes.named(request.class_name)
        self._ports.egress.checked(request.network, organization_id, named.name)
        if named.by_window:
            window = request.span(now)
            refuse_too_long(named, window)
        else:
            window, _ = request.deadline_window(now)
        pools = Places(self._ports).pools(connection, request, window)
        largest = max(leases_sql.capacity(connection, pool.id) for pool in pools)
        if request.accelerators > largest:
            raise InvalidInputError(
                f"the largest pool has {largest} accelerators; ask for at most that many", field="accelerators"
            )
        try:
            return self._ports.price(connection, pools[0].id, named.name, window, organization_id)[1]
        except SubletError:
            return None


def _above(entry: Entry, quote: Quote) -> str | None:
    """Why the quote is too expensive for the entry; None if it is not."""
    if entry.price_max_nano is None or quote.price_nano <= entry.price_max_nano:
        return None
    return (
        f"the price is {price_from_nano(quote.price_nano)} {quote.currency} per accelerator-hour, above your limit of "
        f"{price_from_nano(entry.price_max_nano)}"
    )


def _acting(entry: Entry, operation: str) -> audit.Acting:
    return audit.Acting("system", entry.organization_id, "system", operation, f"/v1/waitlist/{entry.id}")


def _found(entry: Entry | None, entry_id: str) -> Entry:
    if entry is None:
        raise NotFoundError(f"there is no waiting-list entry {entry_id[:60]!r}; `sublet waitlist ls` lists yours")
    return entry
