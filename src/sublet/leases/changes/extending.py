"""Whether a lease can go on beyond its end on its own accelerators, until when at most, and at what price."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from sqlalchemy import Connection

from sublet.leases import store as sql
from sublet.leases.changes.model import PRICE_STEPS_MAX, ExtensionRefusedError
from sublet.leases.deadlines import store as deadline_sql
from sublet.leases.model import FORECAST_WINDOW_S_MAX, METER_STEP_S, WINDOW_S_MAX, WINDOW_S_MIN, Lease, checked_ahead
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes import calendar
from sublet.leases.reclaim import store as reclaim_store
from sublet.surplus.model import BeyondForecastError
from sublet.values.clock import format_time
from sublet.values.errors import LimitExceededError
from sublet.values.windows import Window


@dataclass(frozen=True, slots=True)
class Extensions:
    """Admits the time after a lease's end as a new window, inside the caller's transaction; changes nothing."""

    ports: LeasePorts

    def admit(self, connection: Connection, lease: Lease, end: datetime, now: datetime) -> int:
        """The price per accelerator-hour, in nano-units, of `lease` going on until `end`. Raises ExtensionRefusedError, which
        names the latest end that can be had, InvalidInputError, and what the price raises."""
        checked_ahead(end, now)
        if len(lease.price_steps) >= PRICE_STEPS_MAX:
            raise LimitExceededError(f"lease {lease.id} was extended {PRICE_STEPS_MAX} times; rent a new one")
        price = self._price(connection, lease, Window(lease.window.end, end))
        latest = min(end, self._bound(connection, lease, now))
        if latest < end or not self._fits(connection, lease, end, now):
            self._refuse(connection, lease, latest, now)
        return price

    def _price(self, connection: Connection, lease: Lease, window: Window) -> int:
        price_nano, currency = self.ports.price(
            connection, lease.pool_id, lease.class_name, window, lease.organization_id
        )
        if currency != lease.currency:
            raise ExtensionRefusedError(
                f"lease {lease.id} was sold in {lease.currency} and is priced in {currency} now; rent a new one",
                longest_end=None,
            )
        own = self.ports.own_notice_of(lease.class_name, lease.notice_s)
        if own is not None:
            price_nano = ceil(price_nano * self.ports.classes[lease.class_name].notice_factor(own))
        rooms = self.ports.block_rooms(connection, lease.pool_id, window) if lease.block_id else ()
        least = next((block.min_price_nano or 0 for block, _ in rooms if block.id == lease.block_id), 0)
        return max(price_nano, least)

    def _bound(self, connection: Connection, lease: Lease, now: datetime) -> datetime:
        """The latest end that limits and the next holder of its accelerators leave."""
        longest = WINDOW_S_MAX if lease.block_id else FORECAST_WINDOW_S_MAX
        bounds = [lease.window.start + timedelta(seconds=longest)]
        pool = sql.pool_named(connection, lease.pool_id)
        if pool is not None and pool.offline_at is not None:
            bounds.append(pool.offline_at)
        after = lease.window.end
        taken = calendar.next_fence(connection, lease.unit_ids, after, now, lease.id)
        if taken is not None:
            bounds.append(taken - timedelta(seconds=self.ports.timing_of(connection, lease.pool_id).clean_s))
        return min(bounds)

    def _fits(self, connection: Connection, lease: Lease, end: datetime, now: datetime) -> bool:
        """Whether the surplus, or the lease's block, has room for all of it until `end`, beside what is kept for the owner."""
        if (end - lease.window.end).total_seconds() < 1:
            return False
        window = Window(lease.window.end, end)
        fenced = self.ports.timing_of(connection, lease.pool_id).fence(window)
        if calendar.overlapping(connection, lease.pool_id, fenced, now, without=lease.id) & set(lease.unit_ids):
            return False
        if not self.ports.shareable(connection, lease.pool_id) and (
            calendar.other_tenants(connection, lease.pool_id, lease.organization_id, fenced, now)
            or deadline_sql.other_tenants(connection, lease.pool_id, lease.organization_id)
        ):
            return False
        if sql.failed_units(connection, lease.unit_ids):
            return False
        others = calendar.free_units(connection, lease.pool_id, fenced, now)
        free = len({unit.id for unit in others} | set(lease.unit_ids))
        if free - reclaim_store.held_for_owner(connection, lease.pool_id, window) < lease.accelerators:
            return False
        if lease.block_id is not None:
            rooms = self.ports.block_rooms(connection, lease.pool_id, window)
            return any(block.id == lease.block_id and room >= lease.accelerators for block, room in rooms)
        try:
            sold = (lease.class_name, lease.notice_s)
            room = self.ports.sellable(connection, lease.pool_id, lease.class_name, window)
            return room >= lease.accelerators and self.ports.keeps_notice(
                connection, lease.pool_id, sold, window, lease.accelerators
            )
        except BeyondForecastError:
            return False

    def _refuse(self, connection: Connection, lease: Lease, latest: datetime, now: datetime) -> None:
        """A longer window never has more room than a shorter one: the latest end is found by halving, in whole minutes."""
        low, high = 0, max(0, int((latest - lease.window.end).total_seconds()) // METER_STEP_S)
        while low < high:
            middle = (low + high + 1) // 2
            if self._fits(connection, lease, lease.window.end + timedelta(seconds=middle * METER_STEP_S), now):
                low = middle
            else:
                high = middle - 1
        longest = (
            lease.window.end + timedelta(seconds=low * METER_STEP_S) if low * METER_STEP_S >= WINDOW_S_MIN else None
        )
        what = f"the latest end that can be had is {format_time(longest)}" if longest else "it can't be extended at all"
        raise ExtensionRefusedError(
            f"lease {lease.id} can't go on so long: its accelerators are sold, or the owner may need them; {what}",
            longest_end=format_time(longest) if longest else None,
        )
