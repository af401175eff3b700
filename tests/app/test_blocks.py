"""Blocks: a part of a pool is sold for a year in one step, the owner's demand does not break it, and what is sold ends by force
alone, with its credits shown before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from sublet.control.plane import ControlPlane
from sublet.leases.blocks.service import BlockChangeRequest, BlockSoldError, NewBlockRequest
from sublet.leases.blocks.shape import BlockConflictError
from sublet.leases.model import FirmLeaseError, Lease, LeaseState, NoCapacityError, WrongStateError
from sublet.leases.quotes.admission import BlockSale, QuoteRequest
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.reporting.overview import Overviews
from sublet.simulation.world import SSH_KEY
from sublet.simulation.world import World as SimulatedWorld
from sublet.values.errors import InvalidInputError, NotFoundError
from sublet.values.windows import Window

DAY = timedelta(days=1)
YEAR = timedelta(days=365)
NANO = 1_000_000_000


class World(SimulatedWorld):
    """A pool of eight whose owner uses two, and a customer."""

    customer: str


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w", accelerators=8, firm={"broken_per_1000_max": 10})
    made.customer = made.system.accounts.create_organization("tidal").id
    made.in_use = 2.0
    made.observe()
    yield made
    made.close()


def block(world: World, count: int = 4, days: float = 365, **more: object) -> str:
    request = NewBlockRequest(world.pool.name, count, world.clock.now() + timedelta(days=days), **more)  # type: ignore[arg-type]
    return world.system.blocks.create(request, "operator").block.id


def rent(world: World, count: int, days: float, class_name: str = "firm", ahead: timedelta = timedelta()) -> Lease:
    start = world.clock.now() + ahead if ahead else None
    end = world.clock.now() + ahead + timedelta(days=days)
    quote = world.system.leases.quote(world.customer, QuoteRequest(count, class_name, end, start, world.pool.id))
    return world.system.leases.accept(world.customer, quote.id, [SSH_KEY])


def go(world: World, seconds: int, step_s: int = 5) -> None:
    for _ in range(0, seconds, step_s):
        world.clock.advance(step_s)
        world.observe()
        world.system.leases.tick()


def sellable(world: World, name: str, long: timedelta, ahead: timedelta = timedelta()) -> int:
    window = Window(world.clock.now() + ahead, world.clock.now() + ahead + long)
    return world.system.surplus.sellable(world.pool.id, name, window).count


class TestSelling:
    def test_a_quarter_of_a_pool_for_a_year_in_one_step(self, world: World) -> None:
        sale = BlockSale(world.customer, (SSH_KEY,), 3 * NANO)
        request = NewBlockRequest(world.pool.name, 2, world.clock.now() + YEAR, reason="term deal")
        made = world.system.blocks.create(request, "operator", sale)
        assert made.lease is not None
        assert (made.lease.block_id, made.lease.accelerators, made.lease.price_nano) == (made.block.id, 2, 3 * NANO)
        assert made.lease.window == made.block.window
        go(world, 30)
        assert world.system.leases.lease(made.lease.id).state is LeaseState.ACTIVE
        view = world.system.blocks.block(made.block.id)
        assert view.sold_now == 2 and [(span, count) for span, count in view.schedule] == [(made.block.window, 2)]
        steps = {(step.kind, step.subject) for step in world.system.plan().pending}
        assert ("block_ends", made.block.id) in steps and ("end", made.lease.id) in steps
        plane = ControlPlane(world.system)
        [shown] = Overviews(world.system, plane.health).now().blocks
        assert (shown.id, shown.sold, shown.sold_share, shown.reason) == (made.block.id, 2, 1.0, "term deal")

    def test_nothing_is_made_where_the_sale_can_not_be(self, world: World) -> None:
        world.remember(days=10, need=0.0, spread=0.0)
        world.in_use = 0.0
        go(world, 70)
        rent(world, 6, 0.5, "spot")
        request = NewBlockRequest(world.pool.name, 4, world.clock.now() + YEAR)
        with pytest.raises(NoCapacityError, match=r"only 2 of 4 .* the last until"):
            world.system.blocks.create(request, "operator", BlockSale(world.customer, (SSH_KEY,)))
        assert world.system.blocks.page().items == [] and len(world.system.leases.leases()) == 1

    def test_firm_of_any_length_without_history_or_forecast(self, world: World) -> None:
        """A pool without history sells nothing firm; its block does, and several leases share it."""
        assert sellable(world, "firm", timedelta(hours=1)) == 0
        block(world, 4)
        assert sellable(world, "firm", timedelta(hours=1)) == 4
        first, second = rent(world, 1, 300), rent(world, 3, 364)
        assert first.block_id == second.block_id != ""
        with pytest.raises(NoCapacityError, match="no block has 1 accelerator"):
            rent(world, 1, 200)

    def test_a_lease_past_the_end_of_the_block_is_not_sold_from_it(self, world: World) -> None:
        block(world, 4, days=10)
        assert sellable(world, "firm", 10 * DAY) == 4
        assert sellable(world, "firm", 11 * DAY) == 0
        with pytest.raises(NoCapacityError):
            rent(world, 1, 11)
        with pytest.raises(InvalidInputError, match="further than 90 days"):
            sellable(world, "firm", 92 * DAY)

    def test_two_blocks_are_not_one(self, world: World) -> None:
        block(world, 3)
        block(world, 3)
        assert sellable(world, "firm", YEAR - DAY) == 3
        with pytest.raises(NoCapacityError, match="available instead: 3 accelerators"):
            rent(world, 4, 200)
        assert rent(world, 3, 200).block_id != rent(world, 3, 200).block_id

    def test_the_quote_says_from_where_it_is_sold(self, world: World) -> None:
        made = block(world, 4, days=30)
        told = world.system.leases.quote(
            world.customer, QuoteRequest(2, "firm", world.clock.now() + DAY, None, world.pool.id)
        ).as_dict()
        assert told["block_id"] == made and "no forecast" in told["sold_from"]
        spot = world.system.leases.quote(
            world.customer, QuoteRequest(1, "spot", world.clock.now() + timedelta(hours=1), None, world.pool.id)
        ).as_dict()
        assert spot["block_id"] is None and "forecast of the owner's demand" in spot["sold_from"]

    def test_the_least_price_holds_for_what_is_sold_from_the_block(self, world: World) -> None:
        dear = block(world, 2, days=100, min_price_nano=50 * NANO)
        quote = world.system.leases.quote(
            world.customer, QuoteRequest(2, "firm", world.clock.now() + DAY, None, world.pool.id)
        )
        assert (quote.price_nano, quote.block_id) == (50 * NANO, dear)
        world.system.leases.cancel_quote(world.customer, quote.id)
        cheap = block(world, 2, days=100, min_price_nano=1)
        again = world.system.leases.quote(
            world.customer, QuoteRequest(2, "firm", world.clock.now() + DAY, None, world.pool.id)
        )
        assert again.block_id == cheap and again.price_nano < 50 * NANO
        with pytest.raises(InvalidInputError, match="below the block's minimum price"):
            world.system.blocks.create(
                NewBlockRequest(world.pool.name, 2, world.clock.now() + DAY, min_price_nano=2 * NANO),
                "operator",
                BlockSale(world.customer, (SSH_KEY,), NANO),
            )


class TestTheOwner:
    def test_demand_beyond_the_rest_waits_and_breaks_nothing_in_the_block(self, world: World) -> None:
        block(world, 4)
        lease = rent(world, 2, 300)
        spot = rent(world, 2, 0.5, "spot")
        go(world, 30)
        world.in_use = 8.0
        go(world, 900)
        for one in (lease, spot):
            found = world.system.leases.lease(one.id)
            assert (found.state, found.reclaim_at) == (LeaseState.ACTIVE, None)

    def test_what_the_ladder_sold_beside_the_block_makes_way(self, world: World) -> None:
        world.remember(days=10, need=0.0, spread=0.0)
        world.in_use = 0.0
        go(world, 70)
        block(world, 4)
        lease, spots = rent(world, 4, 300), rent(world, 4, 0.5, "spot")
        go(world, 30)
        world.in_use = 8.0
        go(world, 60)
        assert world.system.leases.lease(spots.id).reclaim_at is not None
        assert world.system.leases.lease(lease.id).reclaim_at is None

    def test_unsold_hours_are_the_ladders(self, world: World) -> None:
        """The owner uses all of the pool and more; what the block keeps off it is still on sale, in every class."""
        block(world, 4)
        world.in_use = 8.0
        go(world, 60)
        for name in ("firm", "notice", "spot"):
            assert sellable(world, name, timedelta(hours=1)) == 4
        rent(world, 3, 0.5, "notice")
        assert [sellable(world, name, timedelta(hours=1)) for name in ("firm", "notice", "spot")] == [1, 1, 1]

    def test_an_order_of_the_owner_breaks_block_leases_last_and_by_force_alone(self, world: World) -> None:
        world.remember(days=40, need=0.0, spread=0.0)
        world.in_use = 0.0
        world.system.record.advance([world.pool.id])
        go(world, 70)
        outside = rent(world, 2, 1 / 24)
        assert outside.block_id is None
        block(world, 4)
        # What the forecast sold counts against the block's unsold hours first: two are left of it as long as that runs.
        inside, spot = rent(world, 2, 300), rent(world, 1, 0.5, "spot")
        go(world, 30)
        window = Window.starting(world.clock.now(), 600)
        with pytest.raises(FirmLeaseError):
            world.system.leases.reclaim(ReclaimOrder(world.pool.id, 6, window, "work"), "team")
        plan = world.system.leases.preview_reclaim(ReclaimOrder(world.pool.id, 5, window, "work", force=True))
        assert {victim.id for victim in plan.victims} == {outside.id}
        plan = world.system.leases.preview_reclaim(ReclaimOrder(world.pool.id, 8, window, "work", force=True))
        assert {victim.id for victim in plan.victims} == {spot.id, outside.id, inside.id}

    def test_claims_do_not_touch_the_block(self, world: World) -> None:
        block(world, 4)
        world.system.demand.add_claim(world.pool.id, 8, Window.starting(world.clock.now(), 3600), "work")
        assert sellable(world, "firm", timedelta(days=200)) == 4


class TestChanges:
    def test_only_what_is_unsold_is_taken_out_without_force(self, world: World) -> None:
        made = block(world, 4)
        rent(world, 3, 300)
        blocks = world.system.blocks
        assert blocks.change(made, BlockChangeRequest(accelerators=3), "operator").plan.after.accelerators == 3
        for change in (
            BlockChangeRequest(accelerators=2),
            BlockChangeRequest(end=world.clock.now() + 30 * DAY),
            BlockChangeRequest(withdraw=True),
        ):
            with pytest.raises(BlockSoldError, match=r"1 sold lease .* credits of \d") as refused:
                blocks.change(made, change, "operator")
            assert len(refused.value.details["plan"]["breaks"]) == 1
        found = blocks.block(made)
        assert (found.block.accelerators, found.block.withdrawn_at, len(found.changes)) == (3, None, 2)

    def test_the_penalty_is_what_the_preview_said(self, world: World) -> None:
        made = block(world, 4)
        lease = rent(world, 4, 300)
        go(world, 30)
        request = BlockChangeRequest(withdraw=True, force=True, reason="needed for training")
        told = world.system.blocks.preview(made, request).plan
        assert world.system.blocks.block(made).block.withdrawn_at is None
        done = world.system.blocks.change(made, request, "operator").plan
        assert done.credits == told.credits and done.credits["USD"] > 0
        go(world, 600)
        ended = world.system.leases.lease(lease.id)
        assert ended.state is LeaseState.ENDED and ended.credit_nano == done.credits["USD"]
        # The rest of the window at 1.25 times its price, by the terms of firm leases.
        rest_h = Decimal(int((lease.window.end - ended.deadline).total_seconds())) / 3600
        assert abs(Decimal(ended.credit_nano) - rest_h * 4 * lease.price_nano * Decimal("1.25")) < 1
        assert sellable(world, "firm", timedelta(hours=1)) == 0

    def test_a_notice_for_a_block_is_not_withdrawn_by_the_planner(self, world: World) -> None:
        made = block(world, 4)
        lease = rent(world, 4, 300)
        go(world, 30)
        world.in_use = 0.0
        world.system.blocks.change(made, BlockChangeRequest(withdraw=True, force=True), "operator")
        go(world, 280)
        assert world.system.leases.lease(lease.id).state is LeaseState.NOTICE

    def test_shrinking_by_force_breaks_the_least_value_that_is_enough(self, world: World) -> None:
        made = block(world, 5)
        dear, cheap = rent(world, 2, 300), rent(world, 3, 30)
        plan = world.system.blocks.preview(made, BlockChangeRequest(accelerators=3)).plan
        assert [victim.id for victim in plan.victims] == [cheap.id]
        plan = world.system.blocks.preview(made, BlockChangeRequest(accelerators=1)).plan
        assert {victim.id for victim in plan.victims} == {dear.id, cheap.id}

    def test_widening_and_moving_the_end(self, world: World) -> None:
        made = block(world, 2, days=10)
        blocks = world.system.blocks
        blocks.change(made, BlockChangeRequest(accelerators=6), "operator")
        assert sellable(world, "firm", 9 * DAY) == 6
        blocks.change(made, BlockChangeRequest(end=world.clock.now() + 20 * DAY), "operator")
        assert sellable(world, "firm", 19 * DAY) == 6
        with pytest.raises(WrongStateError, match="only its end"):
            blocks.change(made, BlockChangeRequest(start=world.clock.now() + DAY), "operator")
        with pytest.raises(InvalidInputError, match="exceeds the capacity"):
            blocks.change(made, BlockChangeRequest(accelerators=9), "operator")
        kinds = [change.kind.value for change in blocks.block(made).changes]
        assert kinds == ["created", "widened", "moved"]

    def test_withdrawing_twice_is_harmless_and_a_block_that_is_over_stays(self, world: World) -> None:
        made = block(world, 2)
        blocks = world.system.blocks
        blocks.change(made, BlockChangeRequest(withdraw=True), "operator")
        blocks.change(made, BlockChangeRequest(withdraw=True), "operator")
        assert len(blocks.block(made).changes) == 2
        with pytest.raises(WrongStateError, match="is withdrawn"):
            blocks.change(made, BlockChangeRequest(accelerators=3), "operator")
        with pytest.raises(InvalidInputError, match="one thing at a time"):
            blocks.change(block(world, 2), BlockChangeRequest(accelerators=3, withdraw=True), "operator")

    def test_units_that_fail_in_a_block(self, world: World) -> None:
        """Capacity is lost: what the ladder sold makes way, and the lease in the block goes on with a spare."""
        made = block(world, 4)
        lease = rent(world, 4, 300)
        go(world, 30)
        world.system.fleet.set_service(lease.unit_ids[0], False, "broken fan")
        go(world, 60)
        found = world.system.leases.lease(lease.id)
        assert (found.state, found.accelerators, found.shrunk_by) == (LeaseState.ACTIVE, 4, 0)
        assert world.system.blocks.block(made).sold_now == 4


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"accelerators": 0}, "at least 1"),
    ({"accelerators": -4}, "at least 1"),
    ({"accelerators": 9}, "9 exceeds the capacity of .*: 8 accelerators are in service"),
    ({"start": timedelta(days=2), "end": DAY}, "must end after it starts"),
    ({"start": -DAY, "end": DAY}, "in the past"),
    ({"end": 1100 * DAY}, "three years"),
    ({"start": 1000 * DAY, "end": 1200 * DAY}, "three years"),
    ({"min_price_nano": -1}, "min_price_per_accelerator_hour must be 0"),
    ({"min_price_nano": 10**18}, "min_price_per_accelerator_hour must be 0"),
]


class TestBadInput:
    @pytest.mark.parametrize(("change", "sentence"), REFUSED)
    def test_is_refused_in_a_sentence_before_anything_changes(
        self, world: World, change: dict[str, object], sentence: str
    ) -> None:
        told: dict[str, object] = {"pool": world.pool.name, "accelerators": 2, "end": DAY, **change}
        now = world.clock.now()
        moments = {name: now + value for name, value in told.items() if isinstance(value, timedelta)}
        with pytest.raises(InvalidInputError, match=sentence):
            world.system.blocks.create(NewBlockRequest(**{**told, **moments}), "operator")  # type: ignore[arg-type]
        assert world.system.blocks.page().items == []

    def test_an_unknown_pool_and_an_unknown_block(self, world: World) -> None:
        with pytest.raises(NotFoundError, match="there is no pool 'nowhere'"):
            world.system.blocks.create(NewBlockRequest("nowhere", 2, world.clock.now() + DAY), "operator")
        with pytest.raises(NotFoundError, match="there is no block"):
            world.system.blocks.change("blk_0", BlockChangeRequest(withdraw=True), "operator")

    def test_what_is_in_the_way_is_named(self, world: World) -> None:
        first = block(world, 5)
        with pytest.raises(BlockConflictError, match=f"more than the 3 available .* block {first}") as refused:
            block(world, 4)
        [conflict] = refused.value.details["conflicts"]
        assert (conflict["kind"], conflict["id"], conflict["accelerators"]) == ("block", first, 5)
        claim = world.system.demand.add_claim(
            world.pool.id, 3, Window.starting(world.clock.now() + DAY, 86_400), "evaluation"
        )
        with pytest.raises(BlockConflictError, match=f"claim {claim.id}"):
            block(world, 1)
        assert block(world, 3, days=0.9)

    def test_a_firm_lease_is_named(self, world: World) -> None:
        world.remember(days=40, need=0.0, spread=0.0)
        world.in_use = 0.0
        world.system.record.advance([world.pool.id])
        go(world, 70)
        lease = rent(world, 3, 1 / 24)
        assert lease.block_id is None
        with pytest.raises(BlockConflictError, match=f"firm lease {lease.id}"):
            block(world, 6)
        assert block(world, 5)


def test_history_keeps_what_blocks_kept_off_the_owner(world: World) -> None:
    """What a change makes of today tells nothing of yesterday."""
    began = world.clock.now()
    made = block(world, 4, days=10)
    world.clock.advance(3600 * 5)
    world.system.blocks.change(made, BlockChangeRequest(accelerators=6), "operator")
    world.clock.advance(3600 * 5)
    world.system.blocks.change(made, BlockChangeRequest(withdraw=True), "operator")

    def at(hours: float) -> datetime:
        return began + timedelta(hours=hours)

    pool_id = world.pool.id
    with world.system.store.read() as connection:
        kept = world.system.capacity.blocks.kept_off(pool_id, began, connection)
    assert kept == [(Window(at(0), at(5)), 4), (Window(at(5), at(10)), 6)]
