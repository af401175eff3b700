"""From Thursday to Monday on one owner's fleet, in simulated time: customers use what is idle, and on Monday the owner needs it.

Everything is decided, sold, reclaimed and billed by the code that runs in production. Only time, sandboxes and engines are
simulated, and the fleet is coarse: a unit stands for a node of UNIT_ACCELERATORS accelerators, so that it takes seconds.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sublet.demand.model import Sample
from sublet.leases.model import Lease
from sublet.leases.quotes.admission import QuoteRequest
from sublet.simulation.world import SSH_KEY, World
from sublet.values.errors import SubletError
from sublet.values.windows import Window

SEED = 7
UNITS = 24
UNIT_ACCELERATORS = 40
START = datetime(2026, 3, 5, tzinfo=UTC)
"""A Thursday."""
PRICE = Decimal("2.00")
"""Of an accelerator-hour."""
HISTORY_DAYS = 28
DAYS = 4
STEP_S = 6 * 3600
TICK_S = 3 * 3600.0
RECLAIM_TICK_S = 60.0
RECLAIM_S = 9 * 3600
"""After midnight of the day that follows."""
RECLAIM_SHARE = 0.9
TENANTS: tuple[tuple[str, str, int, int], ...] = (
    ("Bolt Labs", "notice", 8, 24),
    ("Cedar AI", "spot", 16, 12),
)
"""Each customer that rents, with its class, its units at most, and for how many hours. All customers call models, too."""
CUSTOMERS = ("Aurora Research", *(name for name, *_ in TENANTS))


@dataclass(frozen=True, slots=True)
class Bill:
    """A customer's invoice for these days."""

    customer: str
    number: str
    total: str
    currency: str


@dataclass(frozen=True, slots=True)
class Week:
    """What the days came to. Hours are those of accelerators. `reserve_hours` is what a static reserve would have sold: all that the
    owner's highest demand of the weeks before left over, every hour. `late` counts leases that were there after their deadline."""

    accelerators: int
    days: int
    leases: int
    idle_hours: float
    sold_hours: float
    reserve_hours: float
    reclaimed: int
    late: int
    bills: tuple[Bill, ...]
    difference: str

    @property
    def sold_share(self) -> float:
        """The part of the idle hours that was sold, from 0 to 1."""
        return self.sold_hours / self.idle_hours if self.idle_hours else 0.0

    @property
    def reserve_share(self) -> float:
        """The part of the idle hours that a static reserve would have sold, from 0 to 1."""
        return self.reserve_hours / self.idle_hours if self.idle_hours else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "sold_share": self.sold_share, "reserve_share": self.reserve_share}


def need_at(moment: datetime, chance: random.Random) -> float:
    """The part of the fleet that the owner's work needs: high on working days, low at night and on weekends."""
    if moment.weekday() >= 5:
        usual = 0.22
    else:
        usual = 0.62 if 8 <= moment.hour < 20 else 0.34
    return min(1.0, max(0.0, chance.gauss(usual, 0.03)))


def play_week(folder: Path, days: int = DAYS) -> Week:
    """Play the days, and the morning after them, in `folder`. Raises BrokenInvariantError with the seed
    where the system violated an invariant."""
    world = World(folder, SEED, UNITS, start=START)
    try:
        pool = world.settings.pools[0].model_copy(update={"price_per_accelerator_hour": PRICE * UNIT_ACCELERATORS})
        world.settings = world.settings.model_copy(update={"pools": [pool]})
        world.crash()
        world.system.sync_fleet()
        return _Player(world, days).play()
    finally:
        world.close()


class _Player:
    def __init__(self, world: World, days: int) -> None:
        self._world = world
        self._days = days
        self._chance = random.Random(SEED)
        self._idle = 0.0
        self._customers: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._leases: list[str] = []
        self._peak = 0.0

    def play(self) -> Week:
        system = self._world.system
        self._remember()
        for name in CUSTOMERS:
            self._customers[name] = system.accounts.create_organization(name).id
            self._keys[name] = system.accounts.create_key(name)[0].id
        for _ in range(self._days * 24 * 3600 // STEP_S):
            self._pass(STEP_S, TICK_S)
        self._pass(RECLAIM_S, TICK_S)
        reclaimed, late = self._reclaim()
        return self._books(reclaimed, late)

    def _remember(self) -> None:
        now = self._world.clock.now()
        shares = [(now - timedelta(hours=hour), 0.0) for hour in range(HISTORY_DAYS * 24, 0, -1)]
        samples = [Sample(at, UNITS, UNITS * need_at(at, self._chance)) for at, _ in shares]
        self._peak = max(sample.in_use for sample in samples)
        self._world.system.demand.record_samples(self._world.pool.id, samples)
        self._world.in_use = samples[-1].in_use

    def _pass(self, seconds: float, tick_s: float) -> None:
        """Some hours: the owner's need moves, customers rent what they may, time passes."""
        world = self._world
        world.in_use = UNITS * need_at(world.clock.now(), self._chance)
        self._idle += (UNITS - world.in_use) * seconds / 3600
        world.observe()
        for name, class_name, most, hours in TENANTS:
            self._rent(name, class_name, most, hours)
        for name in CUSTOMERS:
            world.answer(
                self._customers[name],
                self._keys[name],
                "an-open-model",
                self._chance.randrange(10_000_000, 30_000_000),
                self._chance.randrange(1_000_000, 5_000_000),
                f"req_{name}_{world.clock.now():%d%H}",
            )
        world.pass_time(seconds, tick_s)

    def _rent(self, name: str, class_name: str, most: int, hours: int) -> None:
        """A lease of as many units as are on sale, unless the customer has them already."""
        system, whose = self._world.system, self._customers[name]
        held = sum(lease.accelerators for lease in system.leases.live_leases() if lease.organization_id == whose)
        now = self._world.clock.now()
        window = Window(now, now + timedelta(hours=hours))
        count = min(most - held, system.surplus.sellable(self._world.pool.id, class_name, window).count)
        if count <= 0:
            return
        try:
            quote = system.leases.quote(whose, QuoteRequest(count, class_name, window.end, pool=self._world.pool.id))
            self._leases.append(system.leases.accept(whose, quote.id, [SSH_KEY]).id)
        except SubletError:
            # What is on sale to the forecast may be held by a lease that is being cleaned up.
            return

    def _reclaim(self) -> tuple[int, int]:
        """Nine o'clock: a training run claims most of the fleet. How many leases made way, and how many were late."""
        world, now = self._world, self._world.clock.now()
        count = round(UNITS * RECLAIM_SHARE)
        window = Window(now, now + timedelta(hours=12))
        world.system.demand.add_claim(world.pool.id, count, window, "training run")
        world.pass_time(20 * 60, RECLAIM_TICK_S)
        ended = [lease for lease in self._all() if lease.reclaim_at is not None and lease.reclaim_at >= now]
        late = [lease for lease in ended if _late_s(lease, world.clock.now()) > RECLAIM_TICK_S]
        return len(ended), len(late)

    def _all(self) -> list[Lease]:
        return [self._world.system.leases.lease(name) for name in self._leases]

    def _books(self, reclaimed: int, late: int) -> Week:
        system = self._world.system
        bills = []
        for name, whose in self._customers.items():
            made = system.ledger.invoice(whose)
            if made is not None:
                bills.append(Bill(name, made["number"], made["total"], made["currency"]))
        proof = system.ledger.prove().as_dict()
        hours = self._days * 24 + RECLAIM_S / 3600
        sold = sum(lease.metered_s for lease in self._all()) / 3600
        return Week(
            UNITS * UNIT_ACCELERATORS,
            self._days,
            len(self._leases),
            self._idle * UNIT_ACCELERATORS,
            sold * UNIT_ACCELERATORS,
            max(0.0, UNITS - self._peak) * hours * UNIT_ACCELERATORS,
            reclaimed,
            late,
            tuple(bills),
            str(proof["difference"]),
        )


def _late_s(lease: Lease, now: datetime) -> float:
    """Seconds past its deadline for which a lease was there, or still is."""
    assert lease.reclaim_at is not None
    return ((lease.ended_at or now) - lease.reclaim_at).total_seconds()
