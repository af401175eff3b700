"""From events to receivers: everybody whom an event concerns is told, in order, at least once, whatever fails or is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from sqlalchemy import Connection
from tests.store.events import kinds

from sublet.ledger.events import HARD_LIMIT_REACHED, PROOF_FAILED, BudgetStanding, ProofFailed
from sublet.notifications import fanout
from sublet.notifications import store as sql
from sublet.notifications.channels.base import Message, NotDeliveredError, Receipt
from sublet.notifications.delivering import PER_OWNER, PER_RECEIVER, Delivering, prune
from sublet.notifications.fanout import begin, fan_out
from sublet.notifications.model import GIVE_UP, OVERLAP, PAUSE_S, DeliveryState, SubscriptionDisabledError
from sublet.notifications.service import NewSubscription, Notifications, Owner
from sublet.notifications.signing import signed_headers
from sublet.store import Store, outbox
from sublet.store.sealing import Sealing
from sublet.values.clock import SimulatedClock
from sublet.values.errors import NotFoundError

ACME, BOLT, OPERATOR = Owner("org_acme"), Owner("org_bolt"), Owner(None, internal=True)
SEALING = Sealing([b"k" * 32])


class Toy:
    """A channel whose receivers do what the test says: `does` is called for each message."""

    name: ClassVar[str] = "toy"
    formats: ClassVar[tuple[str, ...]] = ("standard",)
    signed: ClassVar[bool] = True
    operator_only: ClassVar[bool] = False
    confirmed: ClassVar[bool] = False

    def __init__(self, events_max: int = 1, gather_s: float = 0.0) -> None:
        self.events_max = events_max
        self.gather_s = gather_s
        self.sent: list[Message] = []
        self.does: Callable[[Message], Receipt] = lambda message: Receipt(200, "ok")
        self.now: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self._lock = threading.Lock()

    def checked_address(self, address: str, *, internal: bool) -> str:
        return address

    def receiver(self, address: str) -> str:
        return address.partition("/")[0]

    def send(self, message: Message) -> Receipt:
        host = self.receiver(message.address)
        with self._lock:
            self.now[host] = self.now.get(host, 0) + 1
            self.most[host] = max(self.most.get(host, 0), self.now[host])
            self.sent.append(message)
        try:
            return self.does(message)
        finally:
            with self._lock:
                self.now[host] -= 1

    def seen(self, address: str = "") -> list[int]:
        with self._lock:
            return [event.position for item in self.sent if item.address.startswith(address) for event in item.events]


class Stage:
    def __init__(self, store: Store, clock: SimulatedClock, toy: Toy | None = None) -> None:
        self.store, self.clock, self.toy = store, clock, toy or Toy()
        self.notifications = Notifications(store, {"toy": self.toy}, SEALING)
        self.delivering = self.restart()
        begin(store)

    def restart(self) -> Delivering:
        self.delivering = Delivering(self.store, {"toy": self.toy}, SEALING)
        return self.delivering

    def subscribe(self, owner: Owner = ACME, address: str = "a", kinds: tuple[str, ...] = ("*",), **more: Any) -> str:
        wanted = NewSubscription("toy", address, kinds, **more)
        return self.notifications.create(owner, wanted, "key_1").subscription.id

    def happen(self, *subjects: str, organization: str = "org_acme") -> None:
        now = self.store.clock.now()

        def write(connection: Connection) -> None:
            for subject in subjects:
                fact = BudgetStanding(subject, "organization", "", "month", now, True, "1", "1", "USD")
                HARD_LIMIT_REACHED.record(connection, fact, now, organization_id=organization)

        self.store.write(write)

    def deliver(self) -> None:
        outbox.number(self.store)
        while fan_out(self.store):
            pass
        while self.delivering.round():
            self.delivering.settle()

    def log(self, subscription_id: str, owner: Owner = ACME) -> list[tuple[str, int]]:
        found = self.notifications.delivery_page(owner, subscription_id).items
        return [(item.state.value, item.attempts) for item, _ in reversed(found)]


@pytest.fixture
def stage(any_store: Store, clock: SimulatedClock) -> Stage:
    return Stage(any_store, clock)


def fails(message: str = "no", **how: Any) -> Callable[[Message], Receipt]:
    def refuse(sent: Message) -> Receipt:
        raise NotDeliveredError(message, Receipt(503, "busy"), **how)

    return refuse


def test_whom_an_event_concerns_is_told_in_order(stage: Stage) -> None:
    stage.happen("before")
    stage.deliver()
    all_of_it = stage.subscribe(ACME, "acme")
    stage.subscribe(BOLT, "bolt")
    stage.subscribe(OPERATOR, "operator")
    stage.subscribe(ACME, "one", subject="bud_2")
    stage.subscribe(ACME, "leases", kinds=("lease.*", "quote.held"))
    stage.happen("bud_1", "bud_2", "bud_3")
    stage.happen("bud_4", organization="org_bolt")
    failed = ProofFailed("all", stage.clock.now(), 1, "x")
    stage.store.write(lambda connection: PROOF_FAILED.record(connection, failed, stage.clock.now()))
    stage.deliver()
    assert stage.toy.seen("acme") == [2, 3, 4]
    assert stage.toy.seen("bolt") == [5]
    assert stage.toy.seen("operator") == [2, 3, 4, 5, 6]
    assert stage.toy.seen("one") == [3]
    assert stage.toy.seen("leases") == []
    assert stage.log(all_of_it) == [("delivered", 1)] * 3


def test_a_test_goes_to_its_own_subscription_alone(stage: Stage) -> None:
    first = stage.subscribe(ACME, "first", kinds=("lease.*",))
    stage.subscribe(ACME, "second")
    own = stage.subscribe(OPERATOR, "operator")
    stage.notifications.test(ACME, first, "key_1")
    stage.notifications.test(OPERATOR, own, "key_2")
    stage.deliver()
    assert sorted((item.address, item.events[0].kind) for item in stage.toy.sent) == [
        ("first", "subscription.test"),
        ("operator", "subscription.operator_test"),
    ]


def test_a_message_that_fails_is_tried_again_later_and_later_with_the_same_id(stage: Stage) -> None:
    mine = stage.subscribe()
    stage.toy.does = fails()
    stage.happen("b")
    waits: list[float] = []
    last = stage.clock.now()
    while stage.log(mine) == [] or stage.log(mine)[0][0] == "waiting":
        before = len(stage.toy.sent)
        stage.deliver()
        if len(stage.toy.sent) > before:
            waits.append((stage.clock.now() - last).total_seconds())
            last = stage.clock.now()
        stage.clock.advance(5 if len(waits) < 4 else 60)
        if len(waits) > 8:
            stage.clock.advance(3600)
    assert all(a < b for a, b in pairwise(waits[1:10])), waits
    [(delivery, attempts)] = stage.notifications.delivery_page(ACME, mine).items
    assert delivery.state is DeliveryState.GIVEN_UP and 10 < delivery.attempts < 20
    assert [item.number for item in attempts] == list(range(1, delivery.attempts + 1))
    assert (attempts[0].status, attempts[0].error, attempts[0].excerpt) == (503, "no", "busy")
    assert attempts[-1].at - attempts[0].at >= GIVE_UP
    assert len({item.events[0].id for item in stage.toy.sent}) == 1


def test_a_receiver_says_when(stage: Stage) -> None:
    mine = stage.subscribe()
    stage.toy.does = fails(retry_after_s=700)
    stage.happen("a", "b")
    stage.deliver()
    stage.toy.does = lambda message: Receipt(200)
    for _ in range(13):
        stage.clock.advance(50)
        stage.deliver()
    assert len(stage.toy.sent) == 1, "not before, and nothing else either"
    stage.clock.advance(51)
    stage.deliver()
    assert stage.log(mine) == [("delivered", 2), ("delivered", 1)]


def test_a_receiver_that_is_away_gets_one_try_at_a_time_and_then_all_in_order(stage: Stage) -> None:
    mine = stage.subscribe()
    stage.toy.does = fails()
    stage.happen(*(f"b{number}" for number in range(30)))
    for pause_s in PAUSE_S:
        stage.deliver()
        stage.deliver()
        stage.clock.advance(pause_s + 1)
    assert len(stage.toy.sent) == len(PAUSE_S)
    stage.toy.does = lambda message: Receipt(200)
    stage.toy.sent.clear()
    stage.clock.advance(7200)
    stage.deliver()
    assert stage.toy.seen() == list(range(1, 31))
    assert {state for state, _ in stage.log(mine)} == {"delivered"}


def test_one_message_that_is_never_taken_does_not_hold_up_the_others(stage: Stage) -> None:
    mine = stage.subscribe()

    def picky(message: Message) -> Receipt:
        if message.events[0].subject == "bad":
            raise NotDeliveredError("400", Receipt(400))
        return Receipt(200)

    stage.toy.does = picky
    stage.happen("bad", "good", "fine")
    stage.deliver()
    for pause_s in PAUSE_S[:2]:
        stage.clock.advance(pause_s + 1)
        stage.deliver()
    assert stage.log(mine)[1:] == [("delivered", 1), ("delivered", 1)]


def test_a_message_that_can_not_be_taken_is_given_up_at_once(stage: Stage) -> None:
    mine = stage.subscribe()
    stage.toy.does = fails("no such user", final=True)
    stage.happen("b")
    stage.deliver()
    assert stage.log(mine) == [("given_up", 1)]


def test_after_days_of_failure_it_is_disabled_and_its_owner_is_told(stage: Stage) -> None:
    broken = stage.subscribe(ACME, "broken")
    stage.subscribe(ACME, "works", kinds=("subscription.disabled",))
    stage.toy.does = lambda message: Receipt(200) if message.address == "works" else fails()(message)
    for _ in range(70):
        stage.happen("b")
        stage.deliver()
        stage.clock.advance(7200)
    found = stage.notifications.subscription(ACME, broken)
    assert not found.enabled and "every delivery failed for 5 days" in str(found.disabled_reason)
    assert kinds(stage.store, "subscription.") == ["subscription.disabled"]
    assert [item.events[0].payload["subscription"] for item in stage.toy.sent if item.address == "works"] == [broken]
    assert "waiting" not in {state for state, _ in stage.log(broken)}
    sent = len(stage.toy.sent)
    stage.happen("c")
    stage.deliver()
    assert len(stage.toy.sent) == sent
    [(delivery, _), *_] = stage.notifications.delivery_page(ACME, broken).items
    with pytest.raises(SubscriptionDisabledError):
        stage.notifications.redeliver(ACME, delivery.id)
    with pytest.raises(SubscriptionDisabledError):
        stage.notifications.test(ACME, broken, "key_1")
    stage.toy.does = lambda message: Receipt(200)
    stage.notifications.change(ACME, broken, enabled=True)
    stage.happen("d")
    stage.deliver()
    assert stage.log(broken)[-1] == ("delivered", 1)


def test_a_receiver_that_is_gone_is_disabled_at_once(stage: Stage) -> None:
    mine = stage.subscribe(OPERATOR, "gone")
    stage.toy.does = fails(gone=True)
    stage.happen("b")
    stage.deliver()
    assert not stage.notifications.subscription(OPERATOR, mine).enabled
    assert kinds(stage.store, "subscription.") == ["subscription.operator_disabled"]


def test_by_hand_it_is_sent_again_with_the_same_id(stage: Stage) -> None:
    mine = stage.subscribe()
    stage.happen("b")
    stage.deliver()
    [(delivery, _)] = stage.notifications.delivery_page(ACME, mine).items
    assert stage.notifications.redeliver(ACME, delivery.id).state is DeliveryState.WAITING
    stage.deliver()
    assert stage.log(mine) == [("delivered", 2)]
    first, second = stage.toy.sent
    assert first.events == second.events
    for stranger in (BOLT, OPERATOR):
        with pytest.raises(NotFoundError):
            stage.notifications.redeliver(stranger, delivery.id)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(1, 9))
def test_killed_at_any_step_nothing_is_lost(any_store: Store, clock: SimulatedClock, step: int) -> None:
    """The process dies before, or right after, its `step`-th write; another one goes on."""
    for after in (False, True):
        stage = Stage(any_store, clock)
        mine = stage.subscribe(address=f"{step}{after}")
        stage.happen("a", "b", "c")
        real, left = any_store.write, [step]

        def dies(fn: Callable[[Connection], Any], real: Any = real, left: list[int] = left, after: bool = after) -> Any:
            left[0] -= 1
            if left[0] == 0 and not after:
                raise Killed
            done = real(fn)
            if left[0] == 0:
                raise Killed
            if left[0] < 0:
                raise Killed
            return done

        any_store.write = dies  # type: ignore[method-assign]
        try:
            stage.deliver()
        except Killed:
            pass
        finally:
            stage.delivering.settle()
            any_store.write = real  # type: ignore[method-assign]
        stage.restart()
        stage.deliver()
        assert {state for state, _ in stage.log(mine)} == {"delivered"} and len(stage.log(mine)) == 3
        seen = stage.toy.seen()
        assert sorted(set(seen)) == sorted(seen)[:1] + sorted(set(seen))[1:] and len(set(seen)) == 3
        ids = {event.position: event.id for item in stage.toy.sent for event in item.events}
        assert all(ids[event.position] == event.id for item in stage.toy.sent for event in item.events)
        stage.notifications.remove(ACME, mine)


def test_a_slow_receiver_keeps_nobody_else_waiting(stage: Stage) -> None:
    release = threading.Event()
    slow = [stage.subscribe(Owner(f"org_{number % 6}"), f"slow/{number}") for number in range(12)]
    stage.subscribe(BOLT, "quick")

    def does(message: Message) -> Receipt:
        if message.address.startswith("slow"):
            assert release.wait(20)
        return Receipt(200)

    stage.toy.does = does
    for number in range(6):
        stage.happen("b", organization=f"org_{number}")
    stage.happen("b", organization="org_bolt")
    outbox.number(stage.store)
    fan_out(stage.store)
    stage.delivering.round()
    deadline = time.monotonic() + 10
    while not stage.toy.seen("quick") and time.monotonic() < deadline:
        time.sleep(0.005)
        stage.delivering.round()
    assert stage.toy.seen("quick") and len(stage.toy.seen("slow")) <= PER_RECEIVER
    release.set()
    stage.delivering.settle()
    stage.deliver()
    assert len(stage.toy.seen("slow")) == len(slow) and stage.toy.most["slow"] <= PER_RECEIVER


def test_an_organization_has_a_share_of_what_is_under_way(stage: Stage) -> None:
    release = threading.Event()
    for number in range(10):
        stage.subscribe(ACME, f"host{number}")
    stage.toy.does = lambda message: Receipt(200) if release.wait(20) else Receipt(500)
    stage.happen("b")
    outbox.number(stage.store)
    fan_out(stage.store)
    assert stage.delivering.round() == PER_OWNER
    assert stage.delivering.round() == 0
    release.set()
    stage.delivering.settle()
    stage.deliver()
    assert len(stage.toy.sent) == 10


def test_a_rotated_secret_signs_with_both_for_a_day(stage: Stage) -> None:
    mine = stage.subscribe()
    old = stage.notifications.rotate(ACME, mine).secret
    new = stage.notifications.rotate(ACME, mine).secret
    stage.happen("b")
    stage.deliver()
    assert stage.toy.sent[-1].signers == (new, old)
    stage.clock.advance(OVERLAP.total_seconds())
    stage.happen("b")
    stage.deliver()
    assert stage.toy.sent[-1].signers == (new,)
    signed_headers("oev_1", stage.clock.now(), b"", [new])


def test_a_flood_is_a_few_messages_where_the_channel_gathers(any_store: Store, clock: SimulatedClock) -> None:
    stage = Stage(any_store, clock, Toy(events_max=50, gather_s=300))
    stage.subscribe()
    stage.happen("first")
    stage.deliver()
    for number in range(100):
        stage.happen(f"b{number}")
        stage.deliver()
        clock.advance(3)
    stage.deliver()
    assert [len(item.events) for item in stage.toy.sent] == [1, 50]
    for _ in range(3):
        clock.advance(300)
        stage.deliver()
    assert [len(item.events) for item in stage.toy.sent] == [1, 50, 50]
    assert stage.toy.seen() == list(range(1, 102))


def test_who_no_longer_leads_sends_nothing_more(stage: Stage) -> None:
    mine = stage.subscribe()
    stage.happen("a", "b", "c")
    outbox.number(stage.store)
    fan_out(stage.store)
    words = [True, False]
    stage.delivering.round(lambda: words.pop(0) if words else False)
    stage.delivering.settle()
    assert len(stage.toy.sent) == 1
    stage.restart()
    stage.deliver()
    assert stage.log(mine) == [("delivered", 1)] * 3


def test_a_removed_subscription_leaves_nothing(stage: Stage) -> None:
    mine = stage.subscribe()
    stage.toy.does = fails()
    stage.happen("b")
    stage.deliver()
    stage.notifications.remove(ACME, mine)
    with stage.store.read() as connection:
        assert not sql.any_before(connection, stage.clock.now() + timedelta(days=1))
        assert sql.oldest_due(connection, stage.clock.now() + timedelta(days=1)) is None
    with pytest.raises(NotFoundError):
        stage.notifications.delivery_page(ACME, mine)


def test_old_messages_are_forgotten_and_an_event_that_is_gone_is_given_up(stage: Stage) -> None:
    mine = stage.subscribe()
    stage.toy.does = fails()
    stage.happen("b")
    stage.deliver()
    stage.clock.advance(40 * 86_400)
    outbox.prune(stage.store, stage.clock.now(), timedelta(days=30))
    stage.toy.does = lambda message: Receipt(200)
    stage.deliver()
    assert stage.log(mine) == [("given_up", 1)]
    with pytest.raises(NotFoundError, match="no longer stored"):
        stage.notifications.redeliver(ACME, stage.notifications.delivery_page(ACME, mine).items[0][0].id)
    assert prune(stage.store, stage.clock.now(), timedelta(days=30)) == 1
    assert prune(stage.store, stage.clock.now(), timedelta(days=30)) == 0


def test_too_many_messages_for_one_that_fails_are_given_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "WAITING_MAX", 3)
    mine = stage.subscribe()
    stage.toy.does = fails()
    stage.happen("a")
    stage.deliver()
    stage.happen("b", "c", "d", "e")
    stage.deliver()
    assert [state for state, _ in stage.log(mine)] == ["waiting"] * 3 + ["given_up"] * 2


def test_a_secret_that_can_not_be_opened_is_a_failure_that_says_so(stage: Stage) -> None:
    mine = stage.subscribe()
    stage.happen("b")
    stage.delivering = Delivering(stage.store, {"toy": stage.toy}, Sealing([b"x" * 32]))
    stage.deliver()
    [(delivery, [attempt])] = stage.notifications.delivery_page(ACME, mine).items
    assert delivery.state is DeliveryState.WAITING and "secrets.key" in attempt.error
