"""A lease changes while it is sold: longer, shorter, smaller, under another name, each at the price that was shown first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from tests.leases.world import CUSTOMER, PRICE_NANO, World

from sublet.leases.backends.base import BackendFailedError, Observation, RunState
from sublet.leases.changes import service as changing
from sublet.leases.changes.model import (
    ChangeRequest,
    ExtensionRefusedError,
    LeaseChange,
    PriceChangedError,
    given_back,
    shortened,
    shrunk,
)
from sublet.leases.jobs.model import NewJob
from sublet.leases.model import GiveBack, Lease, LeaseState, WrongStateError
from sublet.leases.quotes import calendar
from sublet.leases.quotes.request import QuoteRequest
from sublet.store import Store
from sublet.values.clock import SimulatedClock, parse_time
from sublet.values.errors import InvalidInputError, LimitExceededError, NotFoundError
from sublet.values.service_classes import SHIPPED, ServiceClasses


@pytest.fixture
def world(store: Store, clock: SimulatedClock) -> World:
    """Classes that charge half of the price of time that is given back less than an hour ahead."""
    terms = {"give_back_free_s": 3600, "give_back_ratio": Decimal("0.5")}
    classes = [replace(item, **terms) if item.by_window else item for item in SHIPPED.values()]  # type: ignore[arg-type]
    return World(store, clock, classes=ServiceClasses(classes))


def change(world: World, lease: Lease, **asked: object) -> LeaseChange:
    """Look first, then do it: both say the same."""
    request = ChangeRequest(**asked)  # type: ignore[arg-type]
    seen = world.leases.changes.preview(lease.id, request, CUSTOMER)
    done = world.leases.change(lease.id, request, CUSTOMER)
    assert done.as_dict() == seen.as_dict()
    return done


def later(lease: Lease, seconds: int) -> dict[str, object]:
    return {"end": lease.window.end + timedelta(seconds=seconds)}


def test_an_extension_has_todays_price_and_leaves_the_rest_as_it_was(world: World) -> None:
    lease = world.sell(2, seconds=600)
    world.run(300)
    world.price_nano = 3 * PRICE_NANO
    made = change(world, lease, **later(lease, 630))
    assert (made.price_nano, made.costs) == (3 * PRICE_NANO, Fraction(3 * PRICE_NANO * 2 * 630, 3600))
    world.run(1000)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "window_over")
    billed: dict[tuple[str, int], int] = {}
    for item in world.billed.values():
        billed[item.resource, item.price_nano] = billed.get((item.resource, item.price_nano), 0) + item.accelerator_s
    first, second = lease.id, f"{lease.id}.2"
    assert billed[second, 3 * PRICE_NANO] == 2 * 630
    assert set(billed) == {(first, PRICE_NANO), (second, 3 * PRICE_NANO)}
    assert ended.metered_s == sum(billed.values()) and 2 * 590 < billed[first, PRICE_NANO] <= 2 * 600
    assert world.backend.observe(lease.id).ends_at in (None, ended.window.end)


def test_f34_an_extension_into_the_next_fence_is_refused_with_the_longest_possible_end(world: World) -> None:
    lease = world.sell(4, seconds=600)
    world.sell(1, seconds=600, ahead_s=1800, organization="org_other")
    world.run(60)
    before = world.lease(lease)
    with pytest.raises(ExtensionRefusedError, match="the latest end that can be had") as refusal:
        world.leases.change(lease.id, ChangeRequest(**later(lease, 3600)), CUSTOMER)  # type: ignore[arg-type]
    assert world.lease(lease) == before, "what is refused changes nothing"
    longest = refusal.value.details["longest_end"]
    end = parse_time(longest)
    assert timedelta(seconds=1100) < end - lease.window.end <= timedelta(seconds=1200)
    made = change(world, lease, end=end)
    assert made.lease.window.end == end
    with pytest.raises(ExtensionRefusedError) as refusal:
        world.leases.change(lease.id, ChangeRequest(end=end + timedelta(seconds=60)), CUSTOMER)
    assert refusal.value.details["longest_end"] is None


def test_an_extension_is_refused_by_the_surplus_under_notice_and_above_its_price(world: World) -> None:
    lease = world.sell(2, seconds=600)
    world.run(10)
    with pytest.raises(PriceChangedError):
        world.leases.change(lease.id, ChangeRequest(**later(lease, 60), most_nano=PRICE_NANO - 1), CUSTOMER)  # type: ignore[arg-type]
    world.surplus = 1
    with pytest.raises(ExtensionRefusedError, match="can't be extended at all"):
        world.leases.change(lease.id, ChangeRequest(**later(lease, 600)), CUSTOMER)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        world.leases.change(lease.id, ChangeRequest(**later(lease, 600)), "org_other")  # type: ignore[arg-type]
    world.surplus, world.stay = 4, 0
    world.run(5)
    assert world.lease(lease).state is LeaseState.NOTICE
    with pytest.raises(WrongStateError, match="under notice"):
        world.leases.change(lease.id, ChangeRequest(**later(lease, 600)), CUSTOMER)  # type: ignore[arg-type]


def test_a_running_lease_gives_up_accelerators_at_its_moment_and_pays_for_them_until_then(world: World) -> None:
    lease = world.sell(4, seconds=3600)
    world.run(60)
    at = world.clock.now() + timedelta(seconds=600)
    kept, given = lease.devices[1:3], (lease.devices[0], lease.devices[3])
    made = change(world, lease, accelerators=2, at=at, devices=given)
    assert made.restarts and made.saves == Fraction(PRICE_NANO * 2 * (lease.window.end - at).seconds, 3600)
    # Sold on from that moment, though the lease still has them.
    other = world.sell(2, seconds=600, ahead_s=660, organization="org_other")
    assert world.lease(lease).accelerators == 4
    world.run(700)
    smaller = world.lease(lease)
    assert (smaller.accelerators, smaller.devices, smaller.handed_back) == (2, kept, 2)
    assert smaller.state is LeaseState.ACTIVE and world.lease(other).state in (LeaseState.ACTIVE, LeaseState.ENDED)
    world.run(3000, 20)
    ended = world.lease(lease)
    whole, after = (at - lease.window.start).total_seconds(), (lease.window.end - at).total_seconds()
    assert 4 * whole + 2 * after - 60 < ended.metered_s == world.billed_s(lease) <= 4 * whole + 2 * after
    assert set(other.unit_ids).isdisjoint(smaller.unit_ids)


def test_before_it_begins_a_lease_shrinks_in_the_books_alone(world: World) -> None:
    lease = world.sell(4, seconds=3600, ahead_s=7200)
    made = change(world, lease, accelerators=1)
    assert not made.restarts and made.fee_nano == 0
    assert world.lease(lease).accelerators == 1 and world.lease(lease).window == lease.window
    assert world.sell(3, seconds=3600, ahead_s=7200, organization="org_other").accelerators == 3
    world.run(7200 + 3700, 20)
    assert 3500 < world.billed_s(lease) <= 3600


def test_the_only_accelerator_can_not_be_given_back_alone(world: World) -> None:
    lease = world.sell(1, seconds=3600)
    world.run(60)
    with pytest.raises(InvalidInputError, match="the lease has only one accelerator"):
        change(world, lease, accelerators=1)


def test_what_is_given_back_late_costs_its_share_and_early_nothing(world: World) -> None:
    lease = world.sell(2, seconds=7200)
    world.run(60)
    free = change(world, lease, end=world.clock.now() + timedelta(seconds=3600))
    assert free.fee_nano == 0 and "costs nothing" in free.sentence
    now = world.clock.now()
    late = change(world, lease, end=now + timedelta(seconds=1800))
    assert late.fee_nano == PRICE_NANO // 2 == world.fees[-1].amount_nano
    assert "50 % of its price" in late.sentence
    seen = world.leases.changes.preview_end(lease.id, CUSTOMER)
    assert seen.fee_nano == PRICE_NANO // 2 and seen.kind == "end"
    world.leases.end(lease.id, CUSTOMER)
    world.leases.end(lease.id, CUSTOMER)
    assert [fee.amount_nano for fee in world.fees] == [PRICE_NANO // 2, PRICE_NANO // 2]
    world.run(30)
    assert world.lease(lease).fee_nano == PRICE_NANO


@pytest.mark.parametrize(
    ("ahead_s", "fee"),
    [(3600, 0), (3599, round(Fraction(PRICE_NANO, 7200))), (1800, PRICE_NANO // 4), (0, PRICE_NANO // 2)],
)
def test_a_lease_is_canceled_for_half_of_what_begins_within_the_hour(world: World, ahead_s: int, fee: int) -> None:
    lease = world.sell(1, seconds=3600, ahead_s=ahead_s)
    assert lease.as_dict()["give_back"]["free_until"] is not None
    assert world.leases.changes.preview_end(lease.id, CUSTOMER).fee_nano == fee
    world.leases.end(lease.id, CUSTOMER)
    assert world.lease(lease).state is LeaseState.CANCELED
    assert sum(item.amount_nano for item in world.fees) == world.lease(lease).fee_nano == fee


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [{"end": 3600}],
        [{"end": 4000}, {"end": 600}],
        [{"accelerators": 1, "at": 3600}],
        [{"accelerators": 3}],
    ],
    ids=["at once", "shortened first", "shortened twice", "to shrink later", "shrunk first"],
)
def test_giving_back_in_parts_costs_what_giving_back_at_once_does(world: World, steps: list[dict[str, int]]) -> None:
    lease = world.sell(4, seconds=36_000)
    world.run(60)
    now = world.clock.now()
    for step in steps:
        asked = {
            name: now + timedelta(seconds=value) if name != "accelerators" else value for name, value in step.items()
        }
        world.leases.change(lease.id, ChangeRequest(**asked), CUSTOMER)  # type: ignore[arg-type]
    world.leases.end(lease.id, CUSTOMER)
    assert sum(fee.amount_nano for fee in world.fees) == 4 * PRICE_NANO // 2, "half of the next hour of four"


def test_a_failed_lease_gives_back_for_nothing_in_every_way(world: World) -> None:
    lease = replace(world.sell(4, seconds=7200), state=LeaseState.DEGRADED, active_at=world.clock.now())
    now = world.clock.now()
    assert shortened(lease, now + timedelta(seconds=600), now).fee_nano == 0
    assert shrunk(lease, ChangeRequest(accelerators=1), 1, now).fee_nano == 0
    healthy = replace(lease, state=LeaseState.ACTIVE)
    assert shortened(healthy, now + timedelta(seconds=600), now).fee_nano > 0 < given_back(healthy, now).fee_nano


def test_a_share_without_a_time_is_refused_and_one_sold_before_says_that_it_costs_nothing(world: World) -> None:
    with pytest.raises(InvalidInputError, match="give_back_free_s"):
        replace(SHIPPED["spot"], give_back_ratio=Decimal("0.5"))
    rule = GiveBack(0, Decimal("0.5"))
    assert (
        rule.sentence == "Time that you give back costs nothing."
        and rule.as_dict(world.clock.now())["free_until"] is None
    )


def test_to_cancel_a_job_costs_what_ending_its_lease_does_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    request = QuoteRequest(1, "notice", duration_s=7200, pool=world.pool.name)
    jobs = world.leases.jobs
    first, second, third = (jobs.submit(CUSTOMER, NewJob(("train",), request)).jobs[0] for _ in range(3))
    world.run(60)
    jobs.cancel(first[0].id, CUSTOMER, "customer")
    jobs.cancel(first[0].id, CUSTOMER, "customer")
    assert [fee.amount_nano for fee in world.fees] == [PRICE_NANO // 2] == [world.lease(first[1]).fee_nano]
    with monkeypatch.context() as cut:
        cut.setattr(jobs, "_release", lambda lease_id, actor: None)
        jobs.cancel(second[0].id, CUSTOMER, "customer")
        for asked in (ChangeRequest(project="other"), ChangeRequest(**later(second[1], 60))):  # type: ignore[arg-type]
            with pytest.raises(WrongStateError, match="its job was canceled"):
                world.leases.change(second[1].id, asked, CUSTOMER)
    world.leases.end(second[1].id, CUSTOMER)
    jobs.cancel(third[0].id, None, "operator")
    world.run(5)
    assert [fee.amount_nano for fee in world.fees] == [PRICE_NANO // 2] * 2
    assert [world.lease(lease).fee_nano for _, lease in (second, third)] == [PRICE_NANO // 2, 0]


def test_a_job_that_ends_early_by_itself_owes_what_ending_its_lease_would(world: World) -> None:
    """Its command is its tenant's: if exiting cost nothing, nobody would ever pay for giving time back."""
    request = QuoteRequest(1, "notice", duration_s=7200, pool=world.pool.name)
    jobs = world.leases.jobs
    exits, ends, runs = (jobs.submit(CUSTOMER, NewJob(("train",), request)).jobs[0][1] for _ in range(3))
    world.run(60)
    world.backend.exit_job(exits.id, 0)
    world.leases.end(ends.id, CUSTOMER)
    world.run(5)
    assert [world.lease(lease).fee_nano for lease in (exits, ends)] == [PRICE_NANO // 2] * 2
    assert [fee.amount_nano for fee in world.fees] == [PRICE_NANO // 2] * 2 and world.lease(
        exits
    ).end_reason == "job_done"
    world.run(7200, 60)
    assert world.lease(runs).fee_nano == 0, "its window was over first"


def test_a_job_that_ends_under_notice_owes_nothing(world: World) -> None:
    request = QuoteRequest(1, "notice", duration_s=7200, pool=world.pool.name)
    lease = world.leases.jobs.submit(CUSTOMER, NewJob(("train",), request)).jobs[0][1]
    world.run(60)
    world.stay = 0
    world.run(5)
    world.backend.exit_job(lease.id, 0)
    world.run(10)
    assert world.lease(lease).end_reason == "job_done" and world.fees == []


def test_nobody_pays_to_leave_when_the_owner_or_the_operator_ends_it(world: World) -> None:
    told, ended = world.sell(1, seconds=3600), world.sell(1, seconds=3600)
    world.run(60)
    world.leases.end(ended.id)
    world.stay = 0
    world.run(5)
    assert world.lease(told).state is LeaseState.NOTICE
    world.leases.end(told.id, CUSTOMER)
    world.run(30)
    assert world.fees == []


def test_f6_an_invalid_change_leaves_the_lease_as_it_was(world: World) -> None:
    """F6: whatever is refused, the lease, its calendar and its history are what they were."""
    lease = world.sell(2, seconds=3600)
    world.run(60)
    before, history = world.lease(lease), world.leases.history(lease.id)
    with world.store.read() as connection:
        fences = calendar.all_fences(connection)
    end = lease.window.end
    wrong: list[dict[str, object]] = [
        {}, {"end": end}, {"end": end, "accelerators": 1}, {"accelerators": 2}, {"accelerators": 0}, {"accelerators": 9},
        {"end": world.clock.now()}, {"end": lease.window.start}, {"accelerators": 1, "devices": ("cpu:99",)},
        {"accelerators": 1, "at": end}, {"at": end}, {"project": "x\u202ey"}, {"end": end + timedelta(days=2000)},
    ]  # fmt: skip
    for asked in wrong:
        with pytest.raises(InvalidInputError):
            world.leases.change(lease.id, ChangeRequest(**asked), CUSTOMER)  # type: ignore[arg-type]
    with world.store.read() as connection:
        assert calendar.all_fences(connection) == fences
    assert world.lease(lease) == before and world.leases.history(lease.id) == history
    world.run(10)
    assert world.lease(lease).state is LeaseState.ACTIVE


def test_names_and_labels_are_in_any_script_and_bounded(world: World) -> None:
    lease = world.sell()
    name = world.leases.changes.name
    named = name(lease.id, "  訓練 mañana ", [("équipe", "ασφάλεια"), ("a", "")], CUSTOMER)
    assert (named.name, dict(named.labels)) == ("訓練 mañana", {"a": "", "équipe": "ασφάλεια"})
    assert name(lease.id, None, [], CUSTOMER).name == "訓練 mañana" and name(lease.id, "", None, CUSTOMER).name == ""
    for wrong in ({"k" * 41: ""}, {"": "x"}, {"k": "v" * 81}, {"k": "\x1b[31m"}, {str(n): "" for n in range(17)}):
        with pytest.raises(InvalidInputError):
            name(lease.id, None, wrong.items(), CUSTOMER)
    with pytest.raises(NotFoundError):
        name(lease.id, "mine", None, "org_other")


def test_f2_nothing_is_handed_out_until_who_had_it_is_proved_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F2: a lease that begins the moment another ends on the same accelerator waits until that one is gone."""
    first = world.sell(4, seconds=600)
    second = world.sell(4, seconds=600, ahead_s=605, organization="org_other")
    world.run(590)
    assert world.lease(first).state is LeaseState.ACTIVE, (
        "nobody is asked back for a lease that begins when this one ends"
    )
    stop, look = world.backend.stop, world.backend.observe_all

    def stuck() -> bool:
        return world.clock.now() < second.window.start + timedelta(seconds=20)

    def busy(lease_id: str, reason: str, grace_s: float = 2.0) -> Observation:
        if lease_id == first.id and stuck():
            raise BackendFailedError("it takes its time")
        return stop(lease_id, reason, grace_s)

    def seen() -> dict[str, Observation]:
        found = look()
        if stuck() and first.id in found:
            found[first.id] = replace(found[first.id], state=RunState.RUNNING, clean=None)
        return found

    monkeypatch.setattr(world.backend, "stop", busy)
    monkeypatch.setattr(world.backend, "observe_all", seen)
    states = []
    for _ in range(60):
        world.clock.advance(1)
        world.leases.tick()
        states.append((world.lease(first).state, world.lease(second).state))
        assert states[-1][0].terminal or states[-1][1] is LeaseState.SCHEDULED
    assert (LeaseState.ENDING, LeaseState.SCHEDULED) in states[16:]
    assert states[-1] == (LeaseState.ENDED, LeaseState.ACTIVE)


@pytest.mark.parametrize(
    "twice", [[("a", "1"), ("a", "2")], [("a", "1"), (" a", "2")], [("caf\u00e9", ""), ("cafe\u0301", "")]]
)
def test_a_label_is_given_once(world: World, twice: list[tuple[str, str]]) -> None:
    lease = world.sell(1)
    world.leases.changes.name(lease.id, None, [("a", "0")], CUSTOMER)
    with pytest.raises(InvalidInputError, match="twice"):
        world.leases.changes.name(lease.id, None, twice, CUSTOMER)
    assert world.lease(lease).labels == {"a": "0"}


def test_a_lease_is_changed_so_often_and_can_then_still_be_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changing, "CHANGES_MAX", 3)
    lease = world.sell(1, seconds=3600)
    for seconds in (60, 120, 180):
        world.leases.change(lease.id, ChangeRequest(**later(lease, seconds)), CUSTOMER)  # type: ignore[arg-type]
    with pytest.raises(LimitExceededError, match="changed 3 times"):
        world.leases.change(lease.id, ChangeRequest(project="other"), CUSTOMER)
    world.leases.end(lease.id, CUSTOMER)
    assert world.lease(lease).state is LeaseState.CANCELED


def test_a_change_that_cannot_be_is_refused_with_the_reason(world: World) -> None:
    lease = world.sell(3, seconds=600)
    preview = world.leases.changes.preview
    at = world.clock.now() + timedelta(seconds=300)
    with pytest.raises(InvalidInputError, match="for fewer accelerators"):
        preview(lease.id, ChangeRequest(project="p", at=at), CUSTOMER)
    world.leases.change(lease.id, ChangeRequest(accelerators=1, at=at), CUSTOMER)
    with pytest.raises(WrongStateError, match="gives back accelerators at"):
        preview(lease.id, ChangeRequest(end=lease.window.end + timedelta(hours=1)), CUSTOMER)
    world.run(1000)
    with pytest.raises(WrongStateError, match="is ended"):
        preview(lease.id, ChangeRequest(project="p"), CUSTOMER)
    order = world.order()
    with pytest.raises(InvalidInputError, match="deadline runs by its own plan"):
        preview(order.id, ChangeRequest(end=order.window.end + timedelta(hours=1)), CUSTOMER)
    future = world.sell(2, seconds=600, ahead_s=3600)
    with pytest.raises(InvalidInputError, match="is over"):
        preview(future.id, ChangeRequest(accelerators=1, at=world.clock.now() - timedelta(seconds=60)), CUSTOMER)
