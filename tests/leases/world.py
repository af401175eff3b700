"""A small system of leases: one simulated pool, a surplus that the test sets, and lists of what was billed and credited."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection

from sublet.fleet.model import Pool, PoolSpec
from sublet.fleet.service import Fleet
from sublet.leases.backends.engine import PLAIN, Traits
from sublet.leases.backends.simulated import Faults, SimulatedBackend
from sublet.leases.lifecycle.metering import UsageInterval
from sublet.leases.model import Lease, SoldWindow, Timing
from sublet.leases.ports import CreditNote, Fee, LeasePorts
from sublet.leases.quotes import calendar
from sublet.leases.quotes.admission import QuoteRequest
from sublet.leases.quotes.holds import HoldLimits
from sublet.leases.service import Leases
from sublet.store import Store
from sublet.surplus.deadlines.admission import Answer
from sublet.surplus.deadlines.book import Offer
from sublet.surplus.model import Promised
from sublet.values.clock import SimulatedClock
from sublet.values.egress import EgressPolicy
from sublet.values.service_classes import SHIPPED, ServiceClasses
from sublet.values.windows import Window

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPYw8zkjX8HYpkM+BDFDoHkdOI6fVbJ29k/0UmiMfMsu someone@example"
PRICE_NANO = 2_000_000_000
CUSTOMER = "org_customer"


def peak(sold: list[SoldWindow], window: Window) -> int:
    """The most accelerators sold at one moment of `window`."""
    overlapping = [item for item in sold if item.window.overlaps(window)]
    moments = [window.start, *(item.window.start for item in overlapping if window.contains(item.window.start))]
    return max(sum(item.accelerators for item in overlapping if item.window.contains(moment)) for moment in moments)


@dataclass
class World:
    """`surplus` may be sold in all; `stay` may be held by tenants when the owner's need is looked at again."""

    store: Store
    clock: SimulatedClock
    accelerators: int = 4
    faults: Faults = field(default_factory=Faults)
    timing: Timing = field(default_factory=Timing)
    seed: int = 0
    holds: HoldLimits = field(default_factory=HoldLimits)
    traits: Traits = PLAIN
    egress: EgressPolicy = field(default_factory=EgressPolicy)
    classes: ServiceClasses = SHIPPED

    def __post_init__(self) -> None:
        self.surplus = self.stay = self.noticed = self.accelerators
        self.billed: dict[str, UsageInterval] = {}
        self.emitted: list[UsageInterval] = []
        self.credits: list[CreditNote] = []
        self.fees: list[Fee] = []
        self.price_nano = PRICE_NANO
        self.exclusive = False
        self.answer = Answer(True, self.accelerators, "", "", 0)
        self.earliest: datetime | None = None
        self.fleet = Fleet(self.store)
        self.pool: Pool = self.fleet.sync([pool_spec("metal", self.accelerators)])[0]
        self.backend = SimulatedBackend(self.clock, self.seed, self.faults, self.traits)
        self.leases = self.restart()

    def restart(self) -> Leases:
        """The control plane again, as after a crash: everything it knew is in the store and the backend."""
        ports = LeasePorts(
            sellable=self.sellable,
            price=lambda connection, pool, name, window, organization: (self.price_nano, "USD"),
            may_stay=lambda connection, pool, window, calm_s: self.stay,
            emit=self.emit,
            post_credit=lambda connection, note: self.credits.append(note),
            charge=lambda connection, fee: self.fees.append(fee),
            classes=self.classes,
            shareable=lambda connection, pool: not self.exclusive,
            timing=self.timing,
            holds=self.holds,
            engine_of=lambda connection, pool_id: self.traits,
            egress=self.egress,
            offer=self.offer,
            sellable_with_notice=self.sellable_with_notice,
        )
        self.leases = Leases(self.store, {"simulated": self.backend}, ports)
        return self.leases

    def sellable(self, connection: Connection, pool_id: str, class_name: str, window: Window) -> int:
        sold = calendar.book(connection, pool_id, self.clock.now(), window)
        return max(0, self.surplus - peak(sold, window))

    def sellable_with_notice(
        self, connection: Connection, pool_id: str, class_name: str, window: Window, notice_s: int
    ) -> int:
        return min(self.noticed, self.sellable(connection, pool_id, class_name, window))

    def offer(self, connection: Connection, pool_id: str, name: str, wanted: Promised, without: str) -> Offer:
        answer = self.answer
        if self.earliest is not None and (wanted.due >= self.earliest or wanted.accelerators <= answer.most):
            answer = replace(answer, admitted=True, most=wanted.accelerators)
        return Offer(answer, 1.0 if answer.admitted else 0.0, self.earliest)

    def order(self, hours: float = 1, by_hours: float = 8, count: int = 1, organization: str = CUSTOMER) -> Lease:
        """A lease with a deadline: `hours` on `count` accelerators, done in `by_hours`."""
        quote = self.leases.quote(organization, self.order_request(hours, by_hours, count))
        return self.leases.accept(organization, quote.id, [KEY])

    def order_request(self, hours: float = 1, by_hours: float = 8, count: int = 1) -> QuoteRequest:
        end = self.clock.now() + timedelta(hours=by_hours)
        return QuoteRequest(count, "deadline", end, pool=self.pool.name, service_s=round(hours * 3600))

    def emit(self, connection: Connection, interval: UsageInterval) -> None:
        self.emitted.append(interval)
        known = self.billed.setdefault(interval.id, interval)
        assert known == interval, "the same interval was worked out differently"

    def request(self, count: int = 1, class_name: str = "notice", seconds: int = 600, ahead_s: int = 0) -> QuoteRequest:
        start = self.clock.now() + timedelta(seconds=ahead_s)
        return QuoteRequest(
            count, class_name, start + timedelta(seconds=seconds), start if ahead_s else None, self.pool.name
        )

    def sell(
        self,
        count: int = 1,
        class_name: str = "notice",
        seconds: int = 600,
        ahead_s: int = 0,
        organization: str = CUSTOMER,
    ) -> Lease:
        quote = self.leases.quote(organization, self.request(count, class_name, seconds, ahead_s))
        return self.leases.accept(organization, quote.id, [KEY])

    def run(self, seconds: int, step_s: int = 1) -> None:
        """Let time pass, with a round of plan-then-act after each step."""
        for _ in range(0, seconds, step_s):
            self.clock.advance(step_s)
            self.leases.tick()

    def billed_s(self, lease: Lease) -> int:
        return sum(interval.accelerator_s for interval in self.billed.values() if interval.lease_id == lease.id)

    def lease(self, lease: Lease) -> Lease:
        return self.leases.lease(lease.id)


def pool_spec(name: str, count: int, generation: str = "cpu", backend: str = "simulated") -> PoolSpec:
    devices = tuple(f"cpu:{index}" for index in range(count))
    return PoolSpec(name, "here", generation, backend, devices, Decimal(10), "assumed", PRICE_NANO)
