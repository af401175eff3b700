"""The money of leases in the ledger: reservations against budgets, usage, fees and credits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from fractions import Fraction

from sqlalchemy import Connection

from sublet.accounts import store as accounts_sql
from sublet.fleet import store as fleet_sql
from sublet.fleet.model import Pool
from sublet.leases.lifecycle.metering import UsageInterval
from sublet.leases.model import Lease
from sublet.leases.ports import CreditNote, Fee
from sublet.ledger.budgets.holds import announce, buyer_of
from sublet.ledger.budgets.model import HoldRequest
from sublet.ledger.model import UsageEvent
from sublet.ledger.service import Ledger
from sublet.values.clock import Clock
from sublet.values.errors import NotFoundError
from sublet.values.ids import derived_id
from sublet.values.windows import Window

LEASE_SOURCE = "sublet/leases"
LEASE_HOLD_KEPT = timedelta(days=1)

Take = Callable[[Sequence[UsageEvent], Connection], int]
"""Takes usage events in the caller's transaction; returns how many were new."""


class LeaseMoney:
    """The ledger's side of what leases need (`leases.ports`). Everything happens in the caller's transaction."""

    def __init__(self, ledger: Ledger, clock: Clock, take: Take) -> None:
        self._ledger = ledger
        self._clock = clock
        self._take = take

    def reserve(self, connection: Connection, lease: Lease, key_id: str, project: str) -> None:
        """Reserve the full cost of a lease. Raises LimitExceededError."""
        cost = lease.worth(lease.window.start, lease.window.end)
        if lease.service_s is not None:
            cost = Fraction(lease.price_nano * lease.accelerators * lease.service_s, 3600)
        self._place(connection, lease, lease.window, cost, (key_id, project))

    def rebook(self, connection: Connection, before: Lease, after: Lease, buyer: tuple[str, str] | None) -> None:
        """Release the reservation for `before`, except for usage that is not rated yet, and reserve the remaining cost of
        `after`. Raises LimitExceededError, and then changes nothing."""
        now = self._clock.now()
        old = lease_hold(before)
        paid_by = buyer_of(connection, old)
        dearest = max([before.price_nano, *(step.price_nano for step in before.price_steps)])
        used = math.ceil(Fraction(dearest * (before.metered_s - before.hold_from_s), 3600)) + before.fee_nano
        self._ledger.spending.finish(connection, old, now, used)
        begin = max(before.metered_until or before.window.start, before.window.start)
        rest = Window(min(begin, after.window.end - timedelta(seconds=1)), after.window.end)
        cost = after.worth(rest.start, rest.end)
        if after.service_s is not None:
            cost = Fraction(after.price_nano * after.undelivered_s, 3600)
        elif after.handing_back is not None or after.accelerators != before.accelerators:
            # What was delivered and is not metered yet had all of its accelerators.
            unmetered = before.worth(rest.start, max(rest.start, min(now, rest.end)))
            cost = unmetered + after.worth(max(rest.start, min(now, rest.end)), rest.end)
        if buyer is None:
            key_id, project = paid_by[1], paid_by[0]
        else:
            key_id, project = buyer
        self._place(connection, after, rest, cost, (key_id, project))

    def key_stands(self, connection: Connection, key_id: str) -> bool:
        """Whether a key may still buy. What a person asked for in the console has no key."""
        key = accounts_sql.key_by_id(connection, key_id)
        return key is None or key.usable(self._clock.now())

    def project_of(self, connection: Connection, lease: Lease) -> str:
        """The project whose budgets pay for a lease; empty for none."""
        return buyer_of(connection, lease_hold(lease))[0]

    def settle(self, connection: Connection, lease: Lease) -> None:
        """Release the rest of a lease's reservation, after the lease is over and all its usage is reported."""
        self._ledger.spending.finish(connection, lease_hold(lease), self._clock.now())

    def emit(self, connection: Connection, interval: UsageInterval) -> None:
        """Record a usage interval at its agreed price."""
        self._ledger.agree(connection, interval.organization_id, interval.resource, interval.price_nano)
        hold_id = hold_of(interval.lease_id, interval.hold_number)
        project, key_id = buyer_of(connection, hold_id)
        event = UsageEvent(
            source=LEASE_SOURCE,
            id=interval.id,
            organization_id=interval.organization_id,
            meter="accelerator.seconds",
            quantity=interval.accelerator_s,
            at=interval.start,
            resource=interval.resource,
            project=project,
            key_id=key_id,
            hold_id=hold_id,
            dimensions=dimensions_of(pool_of(connection, interval.pool_id), interval.class_name),
        )
        announce(connection, hold_id, self._take([event], connection))

    def charge(self, connection: Connection, fee: Fee) -> None:
        """Record a fee: one unit of `lease.fees` at exactly its amount."""
        lease, resource = fee.lease, f"{fee.lease.id}.fee-{fee.which}"
        self._ledger.agree(
            connection, lease.organization_id, resource, fee.amount_nano, meter="lease.fees", per_units=1
        )
        hold_id = lease_hold(lease)
        project, key_id = buyer_of(connection, hold_id)
        event = UsageEvent(
            source=LEASE_SOURCE,
            id=derived_id("evt", lease.id, "fee", fee.which),
            organization_id=lease.organization_id,
            meter="lease.fees",
            quantity=1,
            at=fee.at,
            resource=resource,
            project=project,
            key_id=key_id,
            hold_id=hold_id,
            dimensions=dimensions_of(pool_of(connection, lease.pool_id), lease.class_name),
        )
        announce(connection, hold_id, self._take([event], connection))

    def credit(self, connection: Connection, note: CreditNote) -> None:
        """Post a credit, once by its id."""
        self._ledger.credit(connection, note.organization_id, note.amount_nano, note.reason, note.id)

    def _place(
        self, connection: Connection, lease: Lease, window: Window, cost: Fraction, buyer: tuple[str, str]
    ) -> None:
        key_id, project = buyer
        request = HoldRequest(
            lease_hold(lease),
            lease.organization_id,
            math.ceil(cost),
            lease.window.end + LEASE_HOLD_KEPT,
            project,
            key_id,
            window=window,
        )
        [outcome] = self._ledger.spending.reserve(connection, [request], self._clock.now())
        if outcome.error is not None:
            raise outcome.error


def lease_hold(lease: Lease) -> str:
    """The id of the hold that currently reserves a lease's cost."""
    return hold_of(lease.id, lease.hold_number)


def hold_of(lease_id: str, number: int = 0) -> str:
    """The id of a hold by the number of the reservation. A lease gets a new one after each change of its terms."""
    return derived_id("hld", lease_id, str(number)) if number else derived_id("hld", lease_id)


def dimensions_of(pool: Pool, class_name: str) -> dict[str, str]:
    """The dimensions by which the usage of a lease is priced and shown."""
    return {"pool": pool.name, "generation": pool.generation, "class": class_name, "site": pool.site}


def pool_of(connection: Connection, pool_id: str) -> Pool:
    """Raises NotFoundError."""
    for pool in fleet_sql.all_pools(connection):
        if pool.id == pool_id:
            return pool
    raise NotFoundError(f"there is no pool {pool_id!r}")
