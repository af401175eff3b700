"""Whatever happened to a pool: what the surplus offers can be quoted at that moment, what it does not offer can't, and every
accelerator is accounted for. On SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from datetime import timedelta
from itertools import count as count_from
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Connection, create_engine, text, update
from sqlalchemy.engine import make_url

from sublet.config.settings import Settings
from sublet.demand.model import Sample
from sublet.fleet.model import Pool
from sublet.leases import store as leases_sql
from sublet.leases.backends.simulated import SimulatedBackend
from sublet.leases.blocks.service import BlockChangeRequest, BlockSoldError, NewBlockRequest
from sublet.leases.blocks.shape import BlockConflictError
from sublet.leases.model import FirmLeaseError, LeaseState, NoCapacityError, WrongStateError
from sublet.leases.quotes import calendar
from sublet.leases.quotes.admission import QuoteRequest
from sublet.leases.quotes.alternatives import Alternatives
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.models import store as models_sql
from sublet.models.catalog import BUILT_IN, from_row
from sublet.reporting.bookings import pool_calendar
from sublet.simulation.world import SSH_KEY
from sublet.store.tables.models import replicas
from sublet.surplus.model import REASONS, Sellable
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window
from sublet.wiring.system import Sublet

SIZE = 8
EXAMPLES = 4
STEPS = 10
POOLS = EXAMPLES + 4
TAKEN = count_from()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def system(request: pytest.FixtureRequest, tmp_path: Path, clock: SimulatedClock) -> Iterator[Sublet]:
    """A system with many pools of eight, so that each history has one of its own."""
    server = os.environ.get("SUBLET_TEST_POSTGRES")
    name, url = f"t_{uuid.uuid4().hex[:16]}", ""
    if request.param == "postgres":
        if not server:
            pytest.skip("SUBLET_TEST_POSTGRES names no server")
        admin = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        url = make_url(server).set(database=name).render_as_string(hide_password=False)
    pools = [
        {
            "name": f"p{number}",
            "backend": "simulated",
            "generation": "h100",
            "accelerators": SIZE,
            "watts": "700",
            "price_per_accelerator_hour": "2.00",
            "failure_reserve": number % 3 == 1,
        }
        for number in range(POOLS)
    ]
    told: dict[str, Any] = {"data_dir": tmp_path, "models": {"default": ""}, "pools": pools, "database": {"url": url}}
    told["quotes"] = {"open_max": 100, "idle_share_max": 1, "pool_share_max": 1}
    made = Sublet(Settings.model_validate(told), clock, {"simulated": SimulatedBackend(clock)})
    made.sync_fleet()
    try:
        yield made
    finally:
        made.close()
        if url:
            with admin.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            admin.dispose()


COUNTS = st.integers(1, SIZE)
AHEAD_S = st.sampled_from([0, 0, 30, 600, 7200])
LONG_S = st.sampled_from([300, 3600, 4 * 3600, 30 * 3600])
CLASSES = st.sampled_from(["firm", "notice", "spot"])


class History(RuleBasedStateMachine):
    """One pool's life. Everything that may be refused may be refused; what is checked is that all agree."""

    def __init__(self, system: Sublet) -> None:
        super().__init__()
        self.system = system
        assert isinstance(system.clock, SimulatedClock)
        self.clock = system.clock
        number = next(TAKEN)
        pool = {item.name: item for item in system.fleet.pools()}[f"p{number % POOLS}"]
        self.pool_id, self.model = pool.id, f"m{number}"
        self.customer = system.accounts.create_organization(f"customer {number}").id
        self.in_use, self.working = 1.0, float(SIZE)
        self.reclaims: list[str] = []
        self.claims: list[str] = []
        self.leases: list[str] = []
        self.blocks: list[str] = []
        self.forced: set[str] = set()

    @property
    def pool(self) -> Pool:
        return self.system.fleet.pool(self.pool_id)

    def window(self, ahead_s: int, long_s: int) -> Window:
        return Window.starting(self.clock.now() + timedelta(seconds=ahead_s), long_s)

    def observe(self) -> None:
        sample = Sample(self.clock.now(), self.working, min(self.in_use, self.working))
        self.system.demand.record_samples(self.pool_id, [sample])

    @initialize(days=st.sampled_from([0, 3, 20]), fine=st.booleans())
    def remembers(self, days: int, fine: bool) -> None:
        now = self.clock.now()
        samples = [Sample(now - timedelta(hours=hour), SIZE, float(hour % 7 == 0)) for hour in range(days * 24, 0, -1)]
        if fine:
            samples += [Sample(now - timedelta(minutes=minute), SIZE, 1.0) for minute in range(59, 0, -1)]
        if samples:
            self.system.demand.record_samples(self.pool_id, samples)
        self.observe()
        entry = from_row({**BUILT_IN.as_dict(), "name": self.model})
        self.system.store.write(lambda connection: models_sql.save_entry(connection, entry, now))

    @rule(count=COUNTS, name=CLASSES, ahead_s=AHEAD_S, long_s=LONG_S, accepted=st.booleans())
    def is_asked_for(self, count: int, name: str, ahead_s: int, long_s: int, accepted: bool) -> None:
        window = self.window(ahead_s, long_s)
        asked = QuoteRequest(count, name, window.end, window.start if ahead_s else None, self.pool_id)
        with contextlib.suppress(NoCapacityError):
            quote = self.system.leases.quote(self.customer, asked)
            if accepted:
                self.leases.append(self.system.leases.accept(self.customer, quote.id, [SSH_KEY]).id)

    @rule(place=st.integers(0, 20))
    def is_given_back(self, place: int) -> None:
        if self.leases:
            self.system.leases.end(self.leases.pop(place % len(self.leases)))

    @rule(count=COUNTS, ahead_s=AHEAD_S, days=st.sampled_from([0.05, 2, 400]))
    def is_put_up_for_sale(self, count: int, ahead_s: int, days: float) -> None:
        window = self.window(ahead_s, round(days * 86_400))
        before = self.outside(window)
        request = NewBlockRequest(self.pool_id, count, window.end, window.start)
        with contextlib.suppress(BlockConflictError, InvalidInputError):
            self.blocks.append(self.system.blocks.create(request, "operator").block.id)
        assert self.outside(window) <= before

    @rule(
        place=st.integers(0, 20),
        count=st.one_of(st.none(), COUNTS),
        long_s=LONG_S,
        what=st.sampled_from(["size", "end", "withdraw"]),
        force=st.booleans(),
    )
    def is_decided_otherwise(self, place: int, count: int | None, long_s: int, what: str, force: bool) -> None:
        if not self.blocks:
            return
        block = self.blocks[place % len(self.blocks)]
        change = {
            "size": BlockChangeRequest(accelerators=count or 1, force=force),
            "end": BlockChangeRequest(end=self.clock.now() + timedelta(seconds=long_s), force=force),
            "withdraw": BlockChangeRequest(withdraw=True, force=force),
        }[what]
        with contextlib.suppress(BlockConflictError, BlockSoldError, InvalidInputError, WrongStateError):
            done = self.system.blocks.change(block, change, "operator")
            self.forced |= {victim.id for victim in done.plan.victims}

    @rule(place=st.integers(0, 20), count=COUNTS, days=st.sampled_from([0.01, 1.5, 200]))
    def is_rented_from_a_block(self, place: int, count: int, days: float) -> None:
        """A firm lease that fits a block, for as long as nobody else may have."""
        asked = QuoteRequest(count, "firm", self.clock.now() + timedelta(days=days), None, self.pool_id)
        with contextlib.suppress(NoCapacityError):
            quote = self.system.leases.quote(self.customer, asked)
            self.leases.append(self.system.leases.accept(self.customer, quote.id, [SSH_KEY]).id)

    def outside(self, window: Window) -> int:
        """What spot, notice and firm may sell, all together, where the window has not begun or is over."""
        if self.system.demand.latest(self.pool_id) is None:
            return 0
        spans = []
        if (window.start - self.clock.now()).total_seconds() > 600:
            spans.append(Window.starting(self.clock.now(), 300))
        if (window.end - self.clock.now()).total_seconds() < 86_400:
            spans.append(Window.starting(window.end + timedelta(seconds=1), 3600))
        return sum(
            self.system.surplus.sellable(self.pool_id, name, span).count
            for name in ("firm", "notice", "spot")
            for span in spans
        )

    @rule(count=COUNTS, ahead_s=AHEAD_S, long_s=LONG_S, force=st.booleans())
    def is_taken_back(self, count: int, ahead_s: int, long_s: int, force: bool) -> None:
        order = ReclaimOrder(self.pool_id, count, self.window(ahead_s, long_s), "work", force)
        with contextlib.suppress(FirmLeaseError):
            made = self.system.leases.reclaim(order, "team")
            self.reclaims.append(made["id"])
            self.forced |= {victim["lease_id"] for victim in made["victims"] if force and "lease_id" in victim}

    @rule(place=st.integers(0, 20))
    def is_not_needed_after_all(self, place: int) -> None:
        if self.reclaims:
            self.system.leases.withdraw_reclaim(self.reclaims.pop(place % len(self.reclaims)), "team")
        elif self.claims:
            self.system.demand.withdraw_claim(self.claims.pop(place % len(self.claims)))

    @rule(count=COUNTS, ahead_s=AHEAD_S, long_s=LONG_S)
    def is_claimed(self, count: int, ahead_s: int, long_s: int) -> None:
        self.claims.append(self.system.demand.add_claim(self.pool_id, count, self.window(ahead_s, long_s), "work").id)

    @rule(count=st.integers(0, 5), floor=st.integers(0, 2))
    def serves(self, count: int, floor: int) -> None:
        self.system.models.deploy(self.model, self.pool_id, floor=floor)
        self.system.models.scale(self.model, count)

    @rule(ahead_s=AHEAD_S, long_s=LONG_S, count=COUNTS)
    def is_maintained(self, ahead_s: int, long_s: int, count: int) -> None:
        window = self.window(ahead_s, long_s)
        told = {"start": window.start, "end": window.end, "accelerators": count}
        known = self.system.settings
        pools = tuple(
            item.model_validate({**item.model_dump(exclude={"maintenance"}), "maintenance": [told]})
            if item.name == self.pool.name
            else item
            for item in known.pools
        )
        self.system.settings = known.model_copy(update={"pools": pools})
        self.system.sync_fleet()

    @rule(place=st.integers(0, SIZE - 1), back=st.booleans())
    def is_drained(self, place: int, back: bool) -> None:
        unit = self.system.fleet.units(self.pool_id)[place]
        self.system.fleet.set_service(unit.id, back, None if back else "drained")

    @rule(in_use=st.integers(0, SIZE), working=st.sampled_from([SIZE, SIZE, SIZE - 1, 3]))
    def is_seen(self, in_use: int, working: int) -> None:
        self.in_use, self.working = float(in_use), float(working)
        self.clock.advance(1)
        self.observe()

    @rule(place=st.integers(0, 20))
    def is_quarantined(self, place: int) -> None:
        if self.leases:
            lease = self.system.leases.lease(self.leases[place % len(self.leases)])
            if not lease.state.terminal:
                self.system.leases._transitions.quarantine(lease.id, "not proved clean", "test")

    @rule(seconds=st.sampled_from([5, 20, 60, 150, 900]))
    def passes(self, seconds: int) -> None:
        for _ in range(5):
            self.clock.advance(seconds / 5)
            self.observe()
            self.system.leases.tick()
            self.system.models.carry_out(self.system.models.plan(*self.system.room()), self.system.capacity.model_spare)
            now = self.clock.now()
            ready = update(replicas).where(replicas.c.state == "starting").values(state="ready", ready_at=now)
            gone = update(replicas).where(replicas.c.state == "draining").values(state="stopped", stopped_at=now)
            self.system.store.write(lambda connection, ready=ready: connection.execute(ready))
            self.system.store.write(lambda connection, gone=gone: connection.execute(gone))

    @invariant()
    def all_is_accounted_for_and_can_be_had(self) -> None:
        if self.system.demand.latest(self.pool_id) is None:
            return
        ladder = self.system.surplus.ladder(self.pool_id)
        for found in (*ladder.rungs, *ladder.alone):
            self.is_whole(found, ladder.capacity)
        for name in ("firm", "notice", "spot"):
            for ahead_s, long_s in ((0, 3600), (1800, 5 * 3600)):
                window = self.window(ahead_s, long_s)
                found = self.system.surplus.sellable(self.pool_id, name, window)
                self.is_whole(found, ladder.capacity)
                if ahead_s == 0 and long_s == 3600:
                    self.is_kept_as_it_is_read(found, window)
                    [alone] = [x.count for x in ladder.alone if (x.class_name, x.window_s) == (name, 3600)]
                    assert alone == found.count
                self.can_be_quoted(found, window, ahead_s)
        self.can_be_quoted_together(ladder.rungs)

    @invariant()
    def what_is_sold_from_a_block_stays_and_fits_it(self) -> None:
        """Nobody who rents from a block gets notice unless the owner forces it, and no block sells more than it has."""
        with self.system.store.read() as connection:
            live = leases_sql.live_leases(connection, self.pool_id)
        for lease in live:
            assert lease.block_id is None or lease.reclaim_at is None or lease.id in self.forced
        now = self.clock.now()
        for block in self.system.blocks.page(self.pool_id, standing_only=True).items:
            spans = [Window(max(now, item.window.start), item.deadline) for item in block.leases if item.deadline > now]
            for span in spans:
                held = [item for item in block.leases if item.window.start <= span.start < item.deadline]
                assert sum(item.accelerators for item in held) <= block.block.accelerators
        counts = {
            (name, long_s): self.system.surplus.sellable(self.pool_id, name, self.window(0, long_s)).count
            for name in ("firm", "notice", "spot")
            for long_s in (300, 4 * 3600)
            if self.system.demand.latest(self.pool_id) is not None
        }
        for long_s in (300, 4 * 3600) if counts else ():
            assert counts["firm", long_s] <= counts["notice", long_s] <= counts["spot", long_s]

    @invariant()
    def the_calendar_shows_each_lease_and_block(self) -> None:
        """Leases, blocks and claims looked at one by one are what the calendar has at each moment, and its parts add up."""
        with self.system.store.read() as connection:
            live = leases_sql.live_leases(connection, self.pool_id)
        blocks = [item.block for item in self.system.blocks.page(self.pool_id, standing_only=True).items]
        claims = self.system.demand.claims(self.pool_id)
        until = self.clock.now() + timedelta(days=600)
        for step in pool_calendar(self.system, self.pool_id, until=until).steps:
            at = step.window.start + (step.window.end - step.window.start) / 2
            if step.window.seconds < 3:
                continue
            holding = [
                item for item in live if item.window.start <= at < item.deadline and item.state is not LeaseState.ENDING
            ]
            assert step.sold_from_blocks == sum(item.held_at(at) for item in holding if item.block_id is not None)
            for name, count in step.sold.items():
                own = [item for item in holding if item.block_id is None and item.class_name == name]
                assert count == sum(item.held_at(at) for item in own), (name, step)
            assert step.blocks == sum(item.accelerators for item in blocks if item.window.contains(at))
            assert step.claimed == sum(item.count for item in claims if item.window.contains(at))
            assert step.capacity == self.pool.capacity(at)
            assert min(*step.parts.values(), step.left, step.excess) >= 0
            assert sum(step.parts.values()) + step.left == step.capacity + step.excess

    def is_whole(self, found: Sellable, capacity: int) -> None:
        parts = [(item.reason_code, item.count) for item in found.withheld]
        assert found.count + sum(count for _, count in parts) == capacity == self.pool.capacity(self.clock.now())
        assert len(dict(parts)) == len(parts) and all(count > 0 and code in REASONS for code, count in parts)

    def is_kept_as_it_is_read(self, found: Sellable, window: Window) -> None:
        """What a write knows from earlier ones is what a reader finds in the database."""
        store, now = self.system.store, self.clock.now()

        def known(connection: Connection) -> tuple[Any, ...]:
            return (
                calendar.free_ids(connection, self.pool_id, window, now, SIZE),
                calendar.free_count(connection, self.pool_id, window, now),
                sorted(calendar.book_rows(connection, self.pool_id, now), key=str),
                self.system.capacity.facts(self.pool_id, connection),
                self.system.surplus.sellable(self.pool_id, found.class_name, window, connection=connection),
            )

        with store.read() as connection:
            read = known(connection)
        assert store.write(known) == read
        assert read[-1] == found

    def can_be_quoted(self, found: Sellable, window: Window, ahead_s: int) -> None:
        start = window.start if ahead_s else None

        def ask(count: int) -> str:
            wanted = QuoteRequest(count, found.class_name, window.end, start, self.pool_id)
            return self.system.leases.quote(self.customer, wanted).id

        with pytest.raises(NoCapacityError):
            ask(found.count + 1)
        if found.count:
            self.system.leases.cancel_quote(self.customer, ask(found.count))

    def can_be_quoted_together(self, rungs: tuple[Sellable, ...]) -> None:
        held = []
        for rung in rungs:
            if rung.count:
                end = self.clock.now() + timedelta(seconds=rung.window_s)
                wanted = QuoteRequest(rung.count, rung.class_name, end, None, self.pool_id)
                held.append(self.system.leases.quote(self.customer, wanted).id)
        for quote_id in held:
            self.system.leases.cancel_quote(self.customer, quote_id)


def test_what_is_offered_can_be_had_and_what_is_not_can_not(system: Sublet, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each refusal would look for alternatives in every other pool, which takes most of the time and is tested elsewhere.
    monkeypatch.setattr(Alternatives, "find", lambda *_: [])
    run_state_machine_as_test(
        lambda: History(system),  # type: ignore[arg-type]
        # Pools are used up, so that a failing history is shown as it is and not played again in shorter forms.
        settings=hypothesis_settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, phases=[Phase.generate]
        ),
    )
